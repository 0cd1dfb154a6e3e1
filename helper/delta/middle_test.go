package delta

import (
	"bytes"
	"context"
	"runtime/metrics"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// queue is one direction of a link with somebody in between.
type queue struct {
	mu     sync.Mutex
	frames []wire.Frame  // hold mu
	most   int           // frames that waited at once; hold mu
	more   chan struct{} // frames has grown, or ended is set
	ended  error         // hold mu
}

func newQueue() *queue { return &queue{more: make(chan struct{}, 1)} }

func (q *queue) put(f wire.Frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.frames = append(q.frames, f)
	q.most = max(q.most, len(q.frames))
	q.signal()
}

func (q *queue) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = err
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// take takes the first frame; ok is false when there is none.
func (q *queue) take() (f wire.Frame, ok bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.frames) == 0 {
		return f, false, q.ended
	}
	f, q.frames = q.frames[0], q.frames[1:]
	return f, true, nil
}

// side is the link of one end.
type side struct{ in, out *queue }

func (s side) Next(ctx context.Context, idle func() error) (wire.Frame, error) {
	for {
		if f, ok, err := s.in.take(); ok || err != nil {
			return f, err
		}
		if idle != nil {
			if err := idle(); err != nil {
				return wire.Frame{}, err
			}
		}
		select {
		case <-s.in.more:
		case <-ctx.Done():
			return wire.Frame{}, context.Cause(ctx)
		}
	}
}

func (s side) Write(m wire.Message) error {
	s.out.put(frame(m))
	return nil
}

func (s side) Queue(m wire.Message) error { return s.Write(m) }
func (s side) Flush() error               { return nil }

// middle hands the frames of two ends on as its script says.
type middle struct {
	script   *script
	from, to [2]*queue
	held     [2][]wire.Frame // to be handed on later
	made     int             // frames that nobody sent
}

// step hands on one frame of an end that has one; false when neither has.
func (m *middle) step() bool {
	first := m.script.n(2)
	for i := range 2 {
		who := (first + i) % 2
		if f, ok, _ := m.from[who].take(); ok {
			m.meddle(who, f)
			return true
		}
	}
	for who, held := range m.held {
		if len(held) > 0 {
			m.to[who].put(held[0])
			m.held[who] = held[1:]
			return true
		}
	}
	return false
}

// meddle hands f on, or does something else with it.
func (m *middle) meddle(who int, f wire.Frame) {
	to := m.to[who]
	switch m.script.n(16) {
	case 15: // lost
	case 14: // twice
		to.put(f)
		m.made++
		to.put(wire.Frame{Type: f.Type, Payload: bytes.Clone(f.Payload)})
	case 13: // later than what follows
		m.held[who] = append(m.held[who], f)
	case 12: // with another bit
		if len(f.Payload) > 0 {
			at := m.script.n(min(64, len(f.Payload))) // fields are at the start
			f.Payload[at] ^= 1 << m.script.n(8)
		}
		to.put(f)
	case 11: // of another type
		f.Type = wire.Type(m.script.n(256))
		to.put(f)
	case 10: // cut short
		f.Payload = f.Payload[:m.script.n(len(f.Payload)+1)]
		to.put(f)
	case 9: // to its sender
		m.made++
		m.to[1-who].put(f)
	case 8: // after something else
		m.made++
		to.put(m.script.raw())
		to.put(f)
	default:
		to.put(f)
	}
}

// middleRoom is how many bytes two ends may keep, what is not collected yet included.
const middleRoom = 96 << 20

// Whatever somebody between two honest ends does with their frames, both end, success means that the target is the
// source, nothing is written outside of the range, and what waits is bounded.
func FuzzTransfer(f *testing.F) {
	const around, size = 4096, 3<<20 + 4096 + 100
	source := image(size, 1)
	clear(source[1<<20 : 1<<20+4096*20])
	before := image(size+2*around, 2)
	copy(before[around:], changed(source, 4096, 50, 7))
	clear(before[around+2<<20 : around+3<<20])
	r := block.Range{Length: size, BlockSize: 4096}
	target := block.Range{Offset: around, Length: size, BlockSize: 4096}
	addScripts(f, "", "\x00\x0f", "\x00\x0e", "\x00\x0d", "\x00\x00\x01\x0c\x03\x01", "\x00\x00\x01\x00\x00\x00\x01\x09")
	f.Fuzz(func(t *testing.T, b []byte) {
		at := heap()
		synctest.Test(t, func(t *testing.T) {
			m := &middle{script: &script{b}}
			for i := range 2 {
				m.from[i], m.to[i] = newQueue(), newQueue()
			}
			dev := memdev.FromBytes(before)
			var sent, got error
			var ends sync.WaitGroup
			ends.Go(func() {
				_, sent = Send(context.Background(), side{m.to[1], m.from[0]}, memdev.FromBytes(source), r, 2, compress.NewEncoder(wire.CompressAuto))
				m.to[0].end(errPeer)
			})
			ends.Go(func() {
				_, got = Receive(context.Background(), side{m.to[0], m.from[1]}, dev, target, 2)
				m.to[1].end(errPeer)
			})
			peak := uint64(0)
			for synctest.Wait(); m.step(); synctest.Wait() {
				peak = max(peak, heap())
			}
			for _, q := range m.to { // who still waits is told that nothing more will come
				q.end(errStuck)
			}
			ends.Wait()
			now := dev.Bytes()
			same := bytes.Equal(now[around:around+size], source)
			if (sent == nil || got == nil) && !same {
				t.Errorf("sender %v, receiver %v, but the target differs", sent, got)
			}
			if sent == nil && dev.Counts().Syncs == 0 {
				t.Error("success is not durable")
			}
			for _, c := range dev.Log() {
				if c.Off < around || c.Off+c.N > around+size {
					t.Errorf("wrote %+v", c)
				}
			}
			for i := range 2 { // at most a window of each kind of frame, and the last words
				if most := max(m.from[i].most, m.to[i].most); most > 4*2+4+2*m.made {
					t.Errorf("%d frames waited, %d were made up", most, m.made)
				}
			}
			if peak > at+middleRoom {
				t.Errorf("%d bytes more than before", peak-at)
			}
		})
	})
}

// heap is how many bytes of it are not free.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
