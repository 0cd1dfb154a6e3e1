package delta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

var _ Target = (*memdev.Device)(nil)

// errPeer is what an end sees when the other has failed.
var errPeer = errors.New("the other end failed")

// errClosed is what an end sees of its stream after the transfer was cancelled.
var errClosed = errors.New("the stream was closed")

// errStuck ends a transfer in which nothing moves any more.
var errStuck = errors.New("deadlock")

// transfer is a sender and a receiver joined in memory. The zero value of a field means a sensible default.
type transfer struct {
	src      Source
	tgt      Target
	r        block.Range
	window   int64
	buffer   int           // bytes on their way in each direction
	inbox    int           // frames that wait at each end
	delay    time.Duration // each way
	prepare  func(sender, receiver *link)
	mute     wire.Type // frames of this type are lost
	compress wire.Compression
	dry      bool                                                                                              // a comparison
	send     func(ctx context.Context, l Link, src Source, r block.Range, window int64) (*wire.Summary, error) // in place of Send
	receive  func(ctx context.Context, l Link, tgt Target, r block.Range, window int64) (*wire.Summary, error) // in place of Receive
	hangUp   func(error)                                                                                       // breaks the stream; set by join
	sent     int64                                                                                             // bytes that the sender wrote; set by join
	received int64                                                                                             // bytes that the receiver wrote; set by join
	readBack bool                                                                                              // what is written is read again
	repaired int                                                                                               // extents that were written once more; set by join
}

// end is how one end of a transfer ended.
type end struct {
	sum *wire.Summary
	err error
}

// run runs both ends to their end in a bubble of its own, in which time is virtual, a deadlock is noticed and a
// goroutine that stays fails the test.
func (tr *transfer) run(t *testing.T) (s, r end) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { s, r = tr.join(t.Context()) })
	return s, r
}

// join is run for a test that has made a bubble.
func (tr *transfer) join(ctx context.Context) (s, r end) {
	ctx, cancel := context.WithTimeoutCause(ctx, 24*time.Hour, errStuck)
	defer cancel()
	defer time.AfterFunc(23*time.Hour, dump).Stop()
	window, inbox := max(tr.window, 1), max(tr.inbox, 1)
	up, down := newPipe(max(tr.buffer, 64), tr.delay), newPipe(max(tr.buffer, 64), tr.delay)
	sender, receiver := newLink(down, up, inbox), newLink(up, down, inbox)
	sender.mute, receiver.mute = tr.mute, tr.mute
	tr.hangUp = func(err error) { up.close(err); down.close(err) }
	if tr.prepare != nil {
		tr.prepare(sender, receiver)
	}
	defer context.AfterFunc(ctx, func() { tr.hangUp(errClosed) })()

	over := make(chan struct{})
	receive := Receive
	if tr.readBack {
		receive = func(ctx context.Context, l Link, tgt Target, r block.Range, window int64) (*wire.Summary, error) {
			return ReceiveVerified(ctx, l, tgt, r, window, false, func(off, n int64) error {
				tr.repaired++
				return nil
			})
		}
	}
	send := func(ctx context.Context, l Link, src Source, r block.Range, window int64) (*wire.Summary, error) {
		return Send(ctx, l, src, r, window, compress.NewEncoder(tr.compress))
	}
	if tr.dry {
		send = CompareSend
		receive = func(ctx context.Context, l Link, tgt Target, r block.Range, window int64) (*wire.Summary, error) {
			return CompareReceive(ctx, l, tgt, r, window)
		}
	}
	if tr.send != nil {
		send = tr.send
	}
	if tr.receive != nil {
		receive = tr.receive
	}
	var readers, ends sync.WaitGroup
	readers.Go(func() { sender.read(down, over) })
	readers.Go(func() { receiver.read(up, over) })
	ends.Go(func() {
		if s.sum, s.err = send(ctx, sender, tr.src, tr.r, window); s.err != nil {
			tr.hangUp(errPeer)
		}
	})
	ends.Go(func() {
		if r.sum, r.err = receive(ctx, receiver, tr.tgt, tr.r, window); r.err != nil {
			tr.hangUp(errPeer)
		}
	})
	ends.Wait()
	close(over)
	tr.hangUp(errPeer)
	readers.Wait()
	tr.sent, tr.received = up.written, down.written
	return s, r
}

// dump prints the goroutines of a transfer that is stuck.
func dump() {
	stacks := make([]byte, 1<<20)
	for _, stack := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(stack, "/delta.") && strings.Contains(stack, "synctest bubble") {
			fmt.Printf("stuck: %s\n\n", stack)
		}
	}
}

func rangeOf(size, blockSize int) block.Range {
	return block.Range{Length: int64(size), BlockSize: blockSize}
}

// wantRoot is the root of data, from the definition and the standard library.
func wantRoot(data []byte, blockSize int) block.Digest {
	root := sha256.New()
	binary.Write(root, binary.BigEndian, uint32(blockSize))
	binary.Write(root, binary.BigEndian, uint64(len(data)))
	for extent := range slices.Chunk(data, block.ExtentSize) {
		digests := sha256.New()
		for b := range slices.Chunk(extent, blockSize) {
			d := sha256.Sum256(b)
			digests.Write(d[:])
		}
		root.Write(digests.Sum(nil))
	}
	return block.Digest(root.Sum(nil))
}

// outcome is a finished transfer of the bytes source, which the range of the transfer has, onto a device that held
// before.
type outcome struct {
	transfer
	source, before []byte
	dev            *memdev.Device
	s, r           end
}

// check fails the test unless the transfer is right in every respect.
func (o *outcome) check(t *testing.T) {
	t.Helper()
	if o.s.err != nil || o.r.err != nil {
		t.Fatalf("sender: %v, receiver: %v", o.s.err, o.r.err)
	}
	off, end := o.transfer.r.Offset, o.transfer.r.Offset+o.transfer.r.Length
	want := slices.Concat(o.before[:off], o.source, o.before[end:])
	if o.dev.Crash(); !bytes.Equal(o.dev.Bytes(), want) {
		t.Error("the target does not hold the source, durably")
	}
	root := wantRoot(o.source, o.transfer.r.BlockSize)
	for name, sum := range map[string]*wire.Summary{"sender": o.s.sum, "receiver": o.r.sum} {
		if sum.Root != root {
			t.Errorf("%s: wrong root", name)
		}
		if n := int64(len(o.source)); sum.Equal+sum.Data+sum.Zeroed != n || sum.Scanned+sum.Holes != n {
			t.Errorf("%s: counters do not add up to %d: %+v", name, n, sum)
		}
	}
	o.checkLog(t, want)
}

// checkLog fails the test when a block was written that was right, or zeros were written as data.
func (o *outcome) checkLog(t *testing.T, want []byte) {
	t.Helper()
	off, size := o.transfer.r.Offset, o.transfer.r.BlockSize
	var data, zeroed int64
	for _, c := range o.dev.Log() {
		at, end := c.Off-off, c.Off+c.N-off
		if at < 0 || end > o.transfer.r.Length || at%int64(size) != 0 {
			t.Fatalf("wrote %+v outside of %+v or across blocks", c, o.transfer.r)
		}
		for b := range slices.Chunk(want[c.Off:c.Off+c.N], size) {
			if bytes.Equal(b, o.before[c.Off:][:len(b)]) {
				t.Fatalf("%+v touches a block that was right", c)
			}
			if block.IsZero(b) != c.Zeroed {
				t.Fatalf("%+v, but zero is %v", c, block.IsZero(b))
			}
			c.Off += int64(len(b))
		}
		if c.Zeroed {
			zeroed += c.N
		} else {
			data += c.N
		}
	}
	if o.r.sum.Data != data || o.r.sum.Zeroed != zeroed {
		t.Errorf("receiver says %+v, but wrote %d and zeroed %d", o.r.sum, data, zeroed)
	}
	if n := o.dev.Counts().Syncs; n != 1 {
		t.Errorf("%d syncs", n)
	}
}

// image returns size bytes without a zero block.
func image(size int, seed byte) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	b[len(b)-1] |= 1
	return b
}

// changed returns a copy of b with the byte at offset at of every n-th block inverted.
func changed(b []byte, blockSize, n, at int) []byte {
	b = bytes.Clone(b)
	for i := 0; i < len(b); i += n * blockSize {
		b[min(i+at, len(b)-1)] ^= 0xff
	}
	return b
}
