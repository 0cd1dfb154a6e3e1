package delta

import (
	"context"
	"runtime"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// maxWorkers bounds the goroutines that read and hash one range: more sessions,
// not more workers, make use of many cores.
const maxWorkers = 4

// extent is one scanned extent. It is owned by one stage at a time.
type extent struct {
	index  int64
	offset int64 // bytes, on the device
	length int   // bytes
	digest block.Digest
	blocks []block.Digest // of each block, in sums; not set when zero
	zero   bool           // all bytes are zero
	hole   bool           // zero, and known without reading
	added  int            // bytes whose blocks are digested
	data   []byte         // content; not set when zero, when the scanner keeps none, or after forget

	sums  *sums   // memory of blocks and short; not set for a hole
	buf   *[]byte // memory of data
	state state   // owned by the stage that follows the scan
	short []byte  // sender: the receiver's truncated block digests, when they came

	sentData, sentZero int64 // sender: bytes of the last patch sent; owned by run

	gaps []wire.Gap // zeros in all digests: sender: could not be read; receiver: kept
	told int64      // sender: bytes of gaps that the receiver knows of; owned by run
}

// holesPerExtent is how many holes count as much as one extent that is read, for
// how often the ends tell each other how far they are. Holes come a million a
// second, and frames cost more than they do.
const holesPerExtent = 16

// weight is what e counts, in holes.
func (e *extent) weight() int {
	if e.hole {
		return 1
	}
	return holesPerExtent
}

// state is how far an extent is, at one end.
type state uint8

const (
	stateScanned state = iota
	stateWanted        // block digests were asked for
	statePatched       // sender: patch sent
	stateRefused       // sender: the whole extent was asked for
	stateResent        // sender: whole extent sent; receiver: asked for
	stateSettled       // equal, or patch applied
)

// scanner reads and hashes the extents of a range in parallel and delivers them
// in order.
type scanner struct {
	src   Source
	gaps  *Salvage // src when it may have gaps, else nil
	view  Viewer   // src when its content may lie in memory, else nil
	r     block.Range
	keep  bool             // extents keep their data
	sends func(int64) bool // with keep: whether the data of an extent will be sent, as far as is known
	free  chan *extent     // extents to fill; what is not free bounds the memory
	sums  chan *sums       // memory for block digests, for the extents that are no holes; the same
	room  chan struct{}    // as often as data may be taken into memory yet
	ready chan struct{}    // scanned has changed

	mu      sync.Mutex
	bufs    []*[]byte // given back, the last one first: it is still in the processor's cache; hold mu
	scanned []*extent // slot i%len holds extent i until it is taken; hold mu
	next    int64     // extent to scan; hold mu
	start   int64     // [start, stop) is the data range found last; hold mu
	stop    int64
}

// newScanner scans r with at most ahead extents taken and not given back, of which
// mostRead are no holes, and the data of at most Hold in memory, those that are being
// read included.
func newScanner(src Source, r block.Range, ahead int64, keep bool) *scanner {
	ahead = within(r, ahead)
	read := min(ahead, mostRead)
	s := &scanner{src: src, r: r, keep: keep,
		free: make(chan *extent, ahead), sums: make(chan *sums, read), room: make(chan struct{}, Hold),
		ready: make(chan struct{}, 1), scanned: make([]*extent, ahead)}
	s.gaps, _ = src.(*Salvage)
	s.view, _ = src.(Viewer)
	for range ahead {
		s.free <- nil // extents are made when they are first needed
	}
	for range read {
		s.sums <- nil // so is their memory
	}
	for range Hold {
		s.room <- struct{}{}
	}
	return s
}

// processors are those that there were when the program began: who uses only a share of them
// reads as much at once as before, since a disk may take long for each.
var processors = runtime.GOMAXPROCS(0)

// workers is the number of goroutines that should call run.
func (s *scanner) workers() int {
	return int(min(int64(min(processors, maxWorkers)), s.r.Extents()))
}

// run scans extents until none is left.
func (s *scanner) run(ctx context.Context) error {
	var buf *[]byte
	var spare *sums // for the next extent that is no hole
	defer func() {
		s.giveBack(buf)
		if spare != nil {
			s.sums <- spare
		}
	}()
	var e *extent
	look := func(part []byte) { s.add(e, part) }
	for {
		// Memory first: who has an extent can always go on, so the oldest one does.
		var err error
		if buf, err = s.buffer(ctx, buf); err != nil {
			return err
		}
		if spare, err = s.spare(ctx, spare); err != nil {
			return err
		}
		select {
		case e = <-s.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if e == nil {
			e = extents.Get().(*extent)
		}
		more, err := s.take(e)
		if err != nil {
			return err
		}
		if !more {
			s.free <- e // for the next worker to find out
			return nil
		}
		if !e.hole {
			e.sums, spare = spare, nil
			e.short = e.sums.short[:0]
			// What was seen has no data: what differs of it is read, as after forget.
			if !s.seen(e, *buf, look) {
				if err := s.read(e, *buf); err != nil {
					return err
				}
				if s.keep && !e.zero {
					e.buf, e.data, buf = buf, (*buf)[:e.length], nil
				}
			}
		}
		s.deliver(e)
	}
}

// deliver makes e available to who takes the extents in order.
func (s *scanner) deliver(e *extent) {
	s.mu.Lock()
	s.scanned[e.index%int64(len(s.scanned))] = e
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default: // the last signal was not seen yet
	}
}

// pick returns extent i, which comes after the one picked last, or nil when it is
// not scanned; then ready tells when to ask again.
func (s *scanner) pick(i int64) *extent {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := &s.scanned[i%int64(len(s.scanned))]
	e := *slot
	*slot = nil
	return e
}

// await is pick that waits.
func (s *scanner) await(ctx context.Context, i int64) (*extent, error) {
	for {
		if e := s.pick(i); e != nil {
			return e, nil
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// buffer returns memory for an extent: have, unless that is nil.
func (s *scanner) buffer(ctx context.Context, have *[]byte) (*[]byte, error) {
	if have != nil {
		return have, nil
	}
	select {
	case <-s.room:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.bufs) - 1
	if last < 0 {
		return block.GetBuffer(), nil
	}
	buf := s.bufs[last]
	s.bufs = s.bufs[:last]
	return buf, nil
}

// spare returns memory for the block digests of an extent: have, unless that is nil.
func (s *scanner) spare(ctx context.Context, have *sums) (*sums, error) {
	if have != nil {
		return have, nil
	}
	select {
	case m := <-s.sums:
		if m == nil {
			m = getSums(s.r.BlockSize)
		}
		return m, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// giveBack makes memory available to the workers again.
func (s *scanner) giveBack(buf *[]byte) {
	if buf == nil {
		return
	}
	s.mu.Lock()
	s.bufs = append(s.bufs, buf)
	s.mu.Unlock()
	s.room <- struct{}{}
}

// take assigns the next extent to e and finds out whether it is a hole. Its
// order is that of the free extents, so that the oldest extent always has one.
func (s *scanner) take(e *extent) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == s.r.Extents() {
		return false, nil
	}
	e.index = s.next
	s.next++
	e.offset, e.length = s.r.Extent(e.index)
	e.state = stateScanned
	e.sentData, e.sentZero = 0, 0
	e.told = 0
	end := e.offset + int64(e.length)
	if s.stop <= e.offset {
		s.start, s.stop, err = s.src.Data(e.offset, s.r.Offset+s.r.Length)
		if err != nil {
			return false, err
		}
	}
	if e.hole = s.start >= end; e.hole {
		e.setZero(s.r.BlockSize)
	}
	return true, nil
}

// forget gives the data of e back, to be read again if it is needed.
func (s *scanner) forget(e *extent) {
	s.giveBack(e.buf)
	e.data, e.buf = nil, nil
}

// recycle gives e back to the scanner.
func (s *scanner) recycle(e *extent) {
	s.forget(e)
	if e.sums != nil {
		e.sums.short = e.short[:0]
		s.sums <- e.sums
	}
	e.sums, e.blocks, e.short, e.gaps = nil, nil, nil, nil
	s.free <- e
}

// retire gives all back that is free, when no worker runs any more.
func (s *scanner) retire() {
	for len(s.free) > 0 {
		if e := <-s.free; e != nil {
			extents.Put(e)
		}
	}
	for len(s.sums) > 0 {
		if m := <-s.sums; m != nil {
			putSums(m)
		}
	}
	for _, buf := range s.bufs {
		block.PutBuffer(buf)
	}
}

// extents keeps extents between two ranges: a disk has many, and what they take
// would be cleared and collected for each.
var extents = sync.Pool{New: func() any { return new(extent) }}

// sums is memory for the digests of the blocks of an extent.
type sums struct {
	blocks []block.Digest
	short  []byte // of the receiver's
}

var sumsPool sync.Pool // of *sums

func getSums(blockSize int) *sums {
	n := block.Count(block.ExtentSize, blockSize)
	if m, _ := sumsPool.Get().(*sums); m != nil && len(m.blocks) >= n {
		return m
	}
	return &sums{blocks: make([]block.Digest, n)}
}

func putSums(m *sums) { sumsPool.Put(m) }
