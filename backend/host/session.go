package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// drainTime is for a cancelled request to end, before the session is given up.
const drainTime = 10 * time.Second

// Session is the client's end of one conversation with a helper. It serves one
// caller at a time, who gives it back with Release.
type Session struct {
	Hello wire.Hello // what the helper said of itself

	host   *Host
	conn   *connection // nil for the helper in this process
	stream helperStream
	r      *wire.Reader  // owned by read
	in     *wire.Silence // of r; owned by read
	w      *wire.Writer
	inbox  chan wire.Frame // from read; closed when the stream ended
	large  chan struct{}   // has one for each large frame in inbox
	wire   atomic.Int64    // bytes in both directions
	drain  time.Duration   // drainTime, but for tests
	over   chan struct{}   // closed when the stream has ended
	quiet  atomic.Bool     // the stream was closed since the helper said nothing

	moved func(data, zeroed int64)                          // of Watch; owned by the caller
	keep  func(r block.Range, digests []block.Digest) error // of Keep; owned by the caller
	mark  func(off, n int64, f Fate)                        // of Trace; owned by the caller
	gaps  func([]wire.Gap)                                  // of OnGaps; owned by the caller
	share uint8                                             // of ShareProcessors; owned by the caller

	squeeze compress.Encoder // of what this process sends itself; owned by the caller

	mu      sync.Mutex
	lost    error // why the stream ended; hold mu
	running int   // requests that have not ended; owned by the caller
	opened  bool  // an object is open; owned by the caller

	fastest time.Duration // of all requests, 0 before the first; owned by the caller
}

// helperStream is the byte stream of a helper: a *Stream, or a pipe.
type helperStream interface {
	io.ReadWriteCloser
	// Diagnosis tells why the stream ended.
	Diagnosis() string
}

// newSession greets the helper at the other end of stream, and closes stream
// when that fails. ctx limits the greeting only.
func newSession(ctx context.Context, h *Host, conn *connection, stream helperStream) (*Session, error) {
	defer context.AfterFunc(ctx, func() { stream.Close() })()
	s := &Session{host: h, conn: conn, stream: stream, drain: drainTime}
	s.inbox, s.large, s.over = make(chan wire.Frame, inboxSize), make(chan struct{}, mostLarge), make(chan struct{})
	counted := counter{stream, &s.wire}
	s.in = wire.NewSilence(counted, wire.AliveLimit, s.giveUp)
	s.r, s.w = wire.NewReader(s.in), wire.NewWriter(counted)
	if err := s.greet(); err != nil {
		stream.Close()
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	s.pulse()
	go s.read()
	return s, nil
}

// greet exchanges magic and hello.
func (s *Session) greet() error {
	said, err := s.r.SkipTo(wire.Magic)
	if err != nil {
		return transient(s.host.name, "start helper", KindLost, "no helper answered: %s", s.why(oneLine(string(said), 400)))
	}
	f, err := s.r.Next()
	if err != nil {
		return transient(s.host.name, "start helper", KindLost, "the helper ended: %s", s.why(""))
	}
	defer f.Release()
	if err := f.Decode(&s.Hello); err != nil {
		return refuse(s.host.name, "start helper", KindDeploy, "%w", err)
	}
	if s.Hello.Version != wire.Version {
		return refuse(s.host.name, "start helper", KindDeploy,
			"the helper there speaks version %d of the protocol (%s), this program version %d (%s): install the same release on both hosts, or leave helper_path empty",
			s.Hello.Version, s.Hello.Build, wire.Version, helper.Version())
	}
	if err := s.w.WriteMagic(); err != nil {
		return transient(s.host.name, "start helper", KindLost, "%w", err)
	}
	if err := s.w.Write(s.hello()); err != nil {
		return transient(s.host.name, "start helper", KindLost, "%w", err)
	}
	return nil
}

// why is said, or when that is empty what the remote side left behind.
func (s *Session) why(said string) string {
	if said != "" {
		return said
	}
	return s.stream.Diagnosis()
}

// Host is the host that the helper runs on.
func (s *Session) Host() *Host { return s.host }

// Local tells whether the helper runs in this process.
func (s *Session) Local() bool { return s.conn == nil }

// SameBoot tells whether the helpers of both are known to run on the same machine, which was
// not started anew in between. What is not known is no.
func (s *Session) SameBoot(o *Session) bool {
	return s.Hello.BootID != "" && s.Hello.BootID == o.Hello.BootID
}

// Wire is the number of bytes that crossed the network in both directions.
func (s *Session) Wire() int64 {
	if s.Local() {
		return 0
	}
	return s.wire.Load()
}

// alive tells whether the session can serve another request: frames that wait
// would be taken for its reply.
func (s *Session) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost == nil && s.running == 0 && !s.opened && len(s.inbox) == 0
}

// Usable tells whether the session can serve another request on what is open.
func (s *Session) Usable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost == nil && s.running == 0
}

// isLost tells whether the stream has ended.
func (s *Session) isLost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost != nil
}

// Write sends a frame that belongs to the running request.
func (s *Session) Write(m wire.Message) error { return s.sent(s.w.Write(m)) }

// Queue is Write of what goes with the next Write or Flush.
func (s *Session) Queue(m wire.Message) error { return s.sent(s.w.Queue(m)) }

// Flush sends what is queued.
func (s *Session) Flush() error { return s.sent(s.w.Flush()) }

// forward queues f.
func (s *Session) forward(f wire.Frame) error { return s.sent(s.w.Forward(f)) }

// sent explains why a write to the stream failed.
func (s *Session) sent(err error) error {
	if err == nil || errors.Is(err, wire.ErrTooLong) || errors.Is(err, wire.ErrInvalid) {
		return err
	}
	s.mu.Lock()
	s.lost = cmp.Or(s.lost, err)
	s.mu.Unlock()
	return s.gone(err)
}

// gone explains the end of the stream. What broke the protocol would do so again.
func (s *Session) gone(err error) error {
	if errors.Is(err, wire.ErrTooLong) || errors.Is(err, wire.ErrInvalid) {
		return refuse(s.host.name, "transfer", KindLost, "what answers there is not the helper of this release: %w", err)
	}
	if s.quiet.Load() {
		return transient(s.host.name, "transfer", KindLost, "nothing came from the helper for %v: it hangs, or its host does", wire.AliveLimit)
	}
	return transient(s.host.name, "transfer", KindLost, "the connection to the helper was lost: %s: %w", s.stream.Diagnosis(), err)
}

// start sends a request; await must follow for each. The helper serves them in
// order, and up to four may wait for their turn.
func (s *Session) start(req wire.Message) error {
	if err := s.Write(req); err != nil {
		return err
	}
	s.running++
	return nil
}

// errDone ends a request that succeeded.
var errDone = errors.New("done")

// Next returns the next frame of the oldest request that has not ended. It logs
// notices. The end of a request is an error: errDone, or what the helper said.
// Next, Write, Queue and Flush make a session the link of a transfer.
func (s *Session) Next(ctx context.Context, idle func() error) (wire.Frame, error) {
	for {
		var f wire.Frame
		var ok bool
		if idle != nil && len(s.inbox) == 0 {
			if err := idle(); err != nil {
				return f, err
			}
		}
		select {
		case f, ok = <-s.inbox:
		case <-ctx.Done():
			return f, cutShort{context.Cause(ctx)}
		}
		s.taken(&f)
		switch {
		case !ok:
			s.mu.Lock()
			defer s.mu.Unlock()
			return f, s.gone(s.lost)
		case f.Type == wire.TypeDone:
			f.Release()
			s.running--
			return f, errDone
		case f.Type == wire.TypeError:
			s.running--
			return f, s.remoteError(f)
		case f.Type != wire.TypeNotice:
			return f, nil
		}
		s.notice(f)
	}
}

func (s *Session) remoteError(f wire.Frame) error {
	defer f.Release()
	m := new(wire.Error)
	if err := f.Decode(m); err != nil {
		return err
	}
	m.Text = oneLine(m.Text, wire.MaxText)
	return fmt.Errorf("%s: %w", s.host.name, m)
}

// await takes the frames of the oldest request until it ends and calls on with
// each; on must not keep the frame. When that fails, nothing runs any more when
// await returns: what ctx or on did not let end is cancelled.
func (s *Session) await(ctx context.Context, on func(*wire.Frame) error) error {
	return s.awaitIdle(ctx, nil, on)
}

// awaitIdle is await that calls idle each time before it waits.
func (s *Session) awaitIdle(ctx context.Context, idle func() error, on func(*wire.Frame) error) error {
	for {
		f, err := s.Next(ctx, idle)
		if err == nil {
			err = on(&f)
			f.Release()
		}
		switch {
		case err == errDone:
			return nil
		case err != nil:
			s.settle()
			return err
		}
	}
}

// settle cancels what runs and takes what is on its way, so that the session can
// be used again. A helper that does not end it in time is given up.
func (s *Session) settle() {
	if s.running == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.drain)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if ctx.Err() == context.DeadlineExceeded {
			s.stream.Close()
		}
	})()
	var said sync.WaitGroup
	said.Go(func() { _ = s.w.Write(&wire.Cancel{}) }) // a helper that cannot write may not read either
	_ = s.drop(ctx, 0)                                // ended, lost or given up
	said.Wait()
}

// drop takes frames until all requests but the last keep ones have ended. What
// they end with does not matter; the error says that one did not.
func (s *Session) drop(ctx context.Context, keep int) error {
	for s.running > keep {
		before := s.running
		f, err := s.Next(ctx, nil)
		if err == nil {
			f.Release()
		} else if s.running == before {
			return err
		}
	}
	return nil
}

// call sends a request and awaits its end.
func (s *Session) call(ctx context.Context, req wire.Message, on func(*wire.Frame) error) error {
	defer s.took(time.Now())
	if err := s.start(req); err != nil {
		return err
	}
	return s.await(ctx, on)
}

// took notes how long a request that began at start took.
func (s *Session) took(start time.Time) {
	if took := time.Since(start); s.fastest == 0 || took < s.fastest {
		s.fastest = took
	}
}

// Fastest is the shortest time that one of the requests took, a round trip and what there
// was to do for it. It is 0 before the first.
func (s *Session) Fastest() time.Duration { return s.fastest }

// cutShort is the end of a context, whose cause may be what another helper has said.
type cutShort struct{ error }

func (c cutShort) Unwrap() error { return c.error }

// concluded tells from the result of a request whether the helper ended it by
// itself. What a request did that was cancelled is not known.
func concluded(err error) bool {
	var we *wire.Error
	var cut cutShort
	return err == nil || errors.As(err, &we) && we.Code != wire.CodeCancelled && !errors.As(err, &cut)
}

// Release gives the session back to its host. What is open is left as it is.
func (s *Session) Release() {
	s.moved, s.mark, s.keep, s.gaps, s.share, s.squeeze = nil, nil, nil, nil, 0, compress.Encoder{}
	s.host.release(s)
}

// close ends the session.
func (s *Session) close() {
	s.stream.Close()
	for f := range s.inbox { // read ends with the stream
		s.taken(&f)
		f.Release()
	}
}

// counter counts the bytes of a stream.
type counter struct {
	io.ReadWriter
	n *atomic.Int64
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.ReadWriter.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (c counter) Write(p []byte) (int, error) {
	n, err := c.ReadWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}
