package delta

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// memory is a target without a map of holes that costs nothing but the copying.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error)          { return copy(p, m[off:]), nil }
func (m memory) WriteAt(p []byte, off int64) (int, error)         { return copy(m[off:], p), nil }
func (m memory) Zero(off, n int64) error                          { clear(m[off : off+n]); return nil }
func (m memory) Sync() error                                      { return nil }
func (m memory) Data(off, end int64) (start, stop int64, _ error) { return off, end, nil }

// connect runs a transfer over pipes of the standard library, in real time, and returns how many bytes the sender
// wrote.
func connect(t testing.TB, src Source, tgt Target, r block.Range) int64 {
	upR, upW := io.Pipe()
	downR, downW := io.Pipe()
	sender, receiver := newLink(downR, upW, 16), newLink(upR, downW, 16)
	over := make(chan struct{})
	go sender.read(downR, over)
	go receiver.read(upR, over)
	received := make(chan error, 1)
	go func() {
		_, err := Receive(context.Background(), receiver, tgt, r, Window)
		received <- err
	}()
	if _, err := Send(context.Background(), sender, src, r, Window, wire.CompressAuto); err != nil {
		t.Fatal(err)
	}
	if err := <-received; err != nil {
		t.Fatal(err)
	}
	close(over)
	upW.Close()
	downW.Close()
	<-sender.gone
	<-receiver.gone
	return sender.w.Written()
}

// A longer range takes no more memory, and few allocations for each extent.
func TestTransfer_Allocations(t *testing.T) {
	const short, long = 8, 40 // extents
	source := image(long*block.ExtentSize, 1)
	measure := func(extents int) (allocs, bytes float64) {
		size := extents * block.ExtentSize
		target := memory(changed(source[:size], 4096, 100, 5))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		connect(t, memory(source), target, rangeOf(size, 4096))
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs - before.Mallocs), float64(after.TotalAlloc - before.TotalAlloc)
	}
	measure(long) // fills the pools
	a, b := measure(short)
	c, d := measure(long)
	allocs, bytes := (c-a)/(long-short), (d-b)/(long-short)
	t.Logf("%.1f allocations and %.0f bytes for each extent with scattered changes", allocs, bytes)
	if allocs > 60 {
		t.Errorf("%.1f allocations for each extent", allocs)
	}
	if bytes > block.ExtentSize { // the race detector loses buffers of pools, hence so many
		t.Errorf("%.0f bytes allocated for each extent", bytes)
	}
}

func benchmark(b *testing.B, source, target []byte) {
	r := rangeOf(len(source), block.DefaultSize)
	b.SetBytes(r.Length)
	b.ReportAllocs()
	now := bytes.Clone(target)
	wire := int64(0)
	for b.Loop() {
		b.StopTimer()
		copy(now, target)
		b.StartTimer()
		wire = connect(b, memory(source), memory(now), r)
	}
	b.ReportMetric(float64(wire)/float64(r.Length), "sent/byte")
	if !bytes.Equal(now, source) {
		b.Fatal("the target differs")
	}
}

const benchSize = 128 << 20

func BenchmarkIdentical(b *testing.B) {
	source := image(benchSize, 1)
	benchmark(b, source, source)
}

func BenchmarkScattered1pc(b *testing.B) {
	source := image(benchSize, 1)
	benchmark(b, source, changed(source, block.DefaultSize, 100, 5))
}

func BenchmarkFirstCopy(b *testing.B) {
	benchmark(b, image(benchSize, 1), make([]byte, benchSize))
}
