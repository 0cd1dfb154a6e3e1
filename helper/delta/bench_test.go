package delta

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
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
func connect(t testing.TB, src Source, tgt Target, r block.Range, window int64) int64 {
	upR, upW := io.Pipe()
	downR, downW := io.Pipe()
	sender, receiver := newLink(downR, upW, 16), newLink(upR, downW, 16)
	over := make(chan struct{})
	go sender.read(downR, over)
	go receiver.read(upR, over)
	received := make(chan error, 1)
	go func() {
		_, err := Receive(context.Background(), receiver, tgt, r, window)
		received <- err
	}()
	if _, err := Send(context.Background(), sender, src, r, window, compress.NewEncoder(wire.CompressAuto)); err != nil {
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

// A longer range allocates no more than a short one: nothing is allocated for each extent.
func TestTransfer_Allocations(t *testing.T) {
	const window, short, long = 8, 16, 32 // extents
	source := image(long*block.ExtentSize, 1)
	someZeros := bytes.Clone(source)
	for i := 0; i < len(someZeros); i += 64 << 10 {
		clear(someZeros[i:][:8<<10])
	}
	for _, c := range []struct {
		name           string
		source, target []byte
	}{
		{"identical", source, source},
		{"scattered", source, changed(source, 4096, 100, 5)},
		{"first copy", source, make([]byte, len(source))},
		{"all becomes zero", make([]byte, len(source)), source},
		{"some becomes zero", someZeros, source},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := memory(bytes.Clone(c.target))
			measure := func(extents int) float64 {
				size := extents * block.ExtentSize
				return testing.AllocsPerRun(2, func() {
					copy(now, c.target)
					connect(t, memory(c.source[:size]), now[:size], rangeOf(size, 4096), window)
				})
			}
			a, b := measure(short), measure(long)
			if each := (b - a) / (long - short); each > allocationsPerExtent {
				t.Errorf("%.2f allocations for each extent: %.0f for %d, %.0f for %d", each, a, short, b, long)
			}
		})
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
		wire = connect(b, memory(source), memory(now), r, Window)
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

// BenchmarkHoles is a range of nothing.
func BenchmarkHoles(b *testing.B) {
	const size = 16 << 30
	src, tgt := memdev.New(size), memdev.New(size)
	b.SetBytes(size)
	for b.Loop() {
		connect(b, src, tgt, block.Range{Length: size, BlockSize: block.DefaultSize}, Window)
	}
}
