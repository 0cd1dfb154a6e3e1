package helper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/recovery"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
	"github.com/rclone-blockdev/rclone-blockdev/helper/witness"
)

const (
	maxAhead  = 4  // requests that may wait for their turn
	inboxSize = 16 // frames that may wait to be taken by a request, or for its turn
	mostLarge = 1  // of these that are larger than wire.MaxControl: each takes a megabyte
)

// session is one conversation. Its reader sorts the frames of the client; handle
// serves one request after the other.
type session struct {
	r        *wire.Reader  // owned by read
	in       *wire.Silence // of r; owned by read
	w        *wire.Writer
	policy   Policy
	requests chan *request   // from read to handle; closed by read
	pending  atomic.Int32    // requests that have not ended
	done     <-chan struct{} // the session ends
	client   wire.Hello      // what it said of itself; set by greet

	open       *device.Object    // what Open opened; owned by handle
	writing    bool              // open is a target; owned by handle
	salvage    *delta.Salvage    // of open, nil when a read error ends a request; owned by handle
	verify     wire.Verification // what of it is read again; owned by handle
	undo       *recovery.Undo    // log of what is overwritten, nil for none; owned by handle
	leads      bool              // open is the target of the first session of a transfer; owned by handle
	spool      *recovery.Spool   // what open is about to get, nil when that is written at once; owned by handle
	ignoreSize bool              // of Open; owned by handle
	received   bool              // Receive has come since Open; owned by handle
	witness    *witness.Witness  // of open, nil for none; owned by handle

	squeeze compress.Encoder // of what is open, to the client; owned by handle

	prepared *prepared   // of Prepare; owned by handle
	original device.Info // of what a snapshot that is open was taken of; owned by handle
}

// request is a request and the frames that belong to it.
type request struct {
	frame  wire.Frame
	ctx    context.Context
	cancel context.CancelCauseFunc
	inbox  chan wire.Frame
	large  chan struct{} // has one for each large frame in inbox
	w      *wire.Writer
}

var errCancelled = errors.New("cancelled")

// greet exchanges magic and hello.
func (s *session) greet() error {
	if err := s.w.WriteMagic(); err != nil {
		return err
	}
	if err := s.w.Write(Hello()); err != nil {
		return err
	}
	if _, err := s.r.SkipTo(wire.Magic); err != nil {
		return noClient(err)
	}
	f, err := s.r.Next()
	if err != nil {
		return noClient(err)
	}
	defer f.Release()
	hello := &s.client
	if err := f.Decode(hello); err != nil {
		return err
	}
	if hello.Version != wire.Version {
		err := wire.Errorf(wire.CodeVersion, "the client speaks version %d of the protocol (%s), this helper version %d (%s)",
			hello.Version, hello.Build, wire.Version, Version())
		return errors.Join(err, s.w.Write(err))
	}
	if !s.pulsed() {
		s.in.Limit(0)
	}
	return nil
}

// pulsed tells whether both ends say regularly that they are there.
func (s *session) pulsed() bool { return s.client.Features&wire.FeatureAlive != 0 }

// noClient is nil for a client that left without a word.
func noClient(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("no client speaks on standard input: %w", err)
}

// read sorts the frames of the client until its stream ends. It must always see
// that soon, since what is open is held until then: a client that sends further
// ahead than it may is refused, not waited for.
func (s *session) read(ctx context.Context) error {
	defer close(s.requests)
	var last *request
	for {
		f, err := s.r.Next()
		if err != nil {
			return gone(err)
		}
		switch {
		case f.Type.IsRequest():
			if s.pending.Add(1) > 1+maxAhead {
				return s.breach("more than %d requests ahead", maxAhead)
			}
			last = s.newRequest(ctx, f)
			s.requests <- last // has room for all that are pending
		case f.Type == wire.TypeCancel:
			f.Release()
			if last != nil {
				last.cancel(errCancelled)
			}
		case last != nil && belongs(f.Type):
			if !s.deliver(last, f) {
				return s.breach("more than %d frames ahead, or than %d large one, for a request that waits", inboxSize, mostLarge)
			}
		case f.Type&wire.Optional != 0:
			f.Release()
		default:
			return s.breach("this helper (version %d of the protocol, %s) does not know frames of type %#02x, which the client (version %d, %s) sent: install the same release on both hosts",
				wire.Version, Version(), uint8(f.Type), s.client.Version, s.client.Build)
		}
	}
}

// breach tells the client how it broke the protocol.
func (s *session) breach(format string, args ...any) error {
	err := wire.Errorf(wire.CodeProtocol, "protocol error: "+format, args...)
	return errors.Join(err, s.w.Write(err))
}

// deliver hands f to the last request. It waits for one that runs or is about to,
// which takes its frames or ends; for one behind another there may be no room.
func (s *session) deliver(r *request, f wire.Frame) (room bool) {
	taken, room := true, true
	if f.Large() {
		taken, room = offer(s, r, r.large, struct{}{})
	}
	if taken {
		taken, room = offer(s, r, r.inbox, f)
	}
	if !taken && room { // the request has ended: the frame was on its way
		f.Release()
	}
	return room
}

// offer puts v into a channel of r, as deliver does.
func offer[T any](s *session, r *request, c chan<- T, v T) (taken, room bool) {
	select {
	case c <- v:
		return true, true
	default:
	}
	if s.pending.Load() > 1 && r.ctx.Err() == nil {
		return false, false
	}
	select {
	case c <- v:
		return true, true
	case <-r.ctx.Done():
		return false, true
	}
}

// belongs tells whether frames of type t may follow a request.
func belongs(t wire.Type) bool { return t >= wire.TypeWindow && t <= wire.TypeGaps }

// gone is errGone for a stream that ended, also by being closed here.
func gone(err error) error {
	if errors.Is(err, wire.ErrTooLong) || errors.Is(err, wire.ErrInvalid) {
		return err
	}
	return errGone
}

func (s *session) newRequest(ctx context.Context, f wire.Frame) *request {
	r := &request{frame: f, inbox: make(chan wire.Frame, inboxSize), large: make(chan struct{}, mostLarge), w: s.w}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	return r
}

// handle serves the requests in order.
func (s *session) handle(ctx context.Context) {
	defer s.abandon()
	for r := range s.requests {
		err := s.serve(r)
		r.cancel(nil) // frames that still come are dropped
		s.pending.Add(-1)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = s.w.Write(&wire.Done{})
		} else {
			err = s.w.Write(wireError(err))
		}
		if err != nil {
			return
		}
	}
}

// serve runs one request, unless it was cancelled before its turn.
func (s *session) serve(r *request) error {
	defer r.frame.Release()
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	h, ok := handlers[r.frame.Type]
	if !ok {
		return wire.Errorf(wire.CodeUnsupported, "this helper (%s) does not know requests of type %#02x", Version(), uint8(r.frame.Type))
	}
	err := h(s, r)
	if errors.Is(err, wire.ErrTrailing) || errors.Is(err, wire.ErrShort) { // another release, if anything
		err = fmt.Errorf("%w: the client is %s, this helper %s: install the same release on both hosts", err, s.client.Build, Version())
	}
	return err
}

var handlers map[wire.Type]func(*session, *request) error

func init() {
	handlers = map[wire.Type]func(*session, *request) error{
		wire.TypeStat:     (*session).stat,
		wire.TypeList:     (*session).list,
		wire.TypeMkdir:    (*session).mkdir,
		wire.TypeRmdir:    (*session).rmdir,
		wire.TypeRemove:   (*session).remove,
		wire.TypeSetTime:  (*session).setTime,
		wire.TypeStatFS:   (*session).statFS,
		wire.TypeOpen:     (*session).openObject,
		wire.TypeClose:    (*session).closeObject,
		wire.TypeRead:     (*session).readRange,
		wire.TypeHash:     (*session).hash,
		wire.TypeSend:     (*session).send,
		wire.TypeReceive:  (*session).receive,
		wire.TypeRoot:     (*session).root,
		wire.TypeDescribe: (*session).describe,
		wire.TypePing:     (*session).ping,
		wire.TypeUndo:     (*session).undoTransfer,
		wire.TypeRecover:  (*session).recoverTransfer,
		wire.TypeTrust:    (*session).trust,

		wire.TypePrepare:   (*session).prepare,
		wire.TypeConclude:  (*session).conclude,
		wire.TypeSnapshots: (*session).snapshots,
	}
}

// Next, Write, Queue and Flush make a request the link of a transfer.
func (r *request) Next(ctx context.Context, idle func() error) (wire.Frame, error) {
	if idle != nil && len(r.inbox) == 0 {
		if err := idle(); err != nil {
			return wire.Frame{}, err
		}
	}
	select {
	case f := <-r.inbox:
		if f.Large() {
			<-r.large
		}
		return f, nil
	case <-ctx.Done():
		return wire.Frame{}, context.Cause(ctx)
	}
}

func (r *request) Write(m wire.Message) error { return r.w.Write(m) }
func (r *request) Queue(m wire.Message) error { return r.w.Queue(m) }
func (r *request) Flush() error               { return r.w.Flush() }
