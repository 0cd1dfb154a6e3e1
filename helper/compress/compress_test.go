package compress

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func random(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func text(n int) []byte {
	words := strings.Fields("the quick brown fox jumps over the lazy dog and func return package error nil context block extent digest")
	r := rand.New(rand.NewPCG(3, 4))
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(' ')
	}
	return b.Bytes()[:n]
}

func TestEncoder(t *testing.T) {
	want := map[wire.Compression]wire.Encoding{
		wire.CompressOff: wire.EncodingRaw, wire.CompressS2: wire.EncodingS2, wire.CompressZstd: wire.EncodingZstd,
	}
	var d Decoder
	for mode, encoding := range want {
		e := NewEncoder(mode)
		for _, n := range []int{0, 1, 100, minSize - 1, minSize, 4096, 70_001, block.ExtentSize} {
			for name, data := range map[string][]byte{"text": text(n), "random": random(n), "zero": make([]byte, n)} {
				enc, out := e.Encode(data)
				if expected := encoding; n < minSize || name == "random" {
					if enc != wire.EncodingRaw {
						t.Errorf("mode %d: %d bytes of %s became encoding %d", mode, n, name, enc)
					}
				} else if enc != expected || expected != wire.EncodingRaw && len(out) > n/2 {
					t.Errorf("mode %d: %d bytes of %s became %d of encoding %d", mode, n, name, len(out), enc)
				}
				got, err := d.Decode(enc, out, n)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("mode %d: %d bytes of %s: %v", mode, n, name, err)
				}
			}
		}
	}
}

// A disk is copied in many transfers: one Encoder serves all, in the mode of each, and the
// memory of a Decoder is that of the one before.
func TestEncoder_Again(t *testing.T) {
	const runs = 50
	data := text(block.ExtentSize)
	e := NewEncoder(wire.CompressOff)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		for mode, want := range map[wire.Compression]wire.Encoding{wire.CompressOff: wire.EncodingRaw, wire.CompressS2: wire.EncodingS2, wire.CompressZstd: wire.EncodingZstd} {
			e.Begin(mode)
			var d Decoder
			enc, out := e.Encode(data)
			got, err := d.Decode(enc, out, len(data))
			if enc != want || err != nil || !bytes.Equal(got, data) {
				t.Fatalf("mode %d: encoding %d, %d of %d bytes: %v", mode, enc, len(got), len(data), err)
			}
			d.Release()
		}
	}
	runtime.ReadMemStats(&after)
	// Under the race detector, a pool forgets a quarter of what it is given.
	if each := (after.TotalAlloc - before.TotalAlloc) / runs; each > block.ExtentSize {
		t.Errorf("%d bytes are allocated for each three transfers", each)
	}
}

// In auto mode the speed of the line decides, and the data.
func TestEncoder_Auto(t *testing.T) {
	data := text(block.ExtentSize)
	second := func(mbit float64) time.Duration { // for an extent
		return time.Duration(block.ExtentSize * 8 / mbit * 1000)
	}
	for _, test := range []struct {
		mbit float64
		want wire.Encoding
	}{{40_000, wire.EncodingRaw}, {10, wire.EncodingZstd}, {100, wire.EncodingZstd}} {
		e := NewEncoder(wire.CompressAuto)
		for range 20 {
			e.Wrote(block.ExtentSize, second(test.mbit))
		}
		if enc, _ := e.Encode(data); enc != test.want {
			t.Errorf("at %v Mbit/s encoding %d", test.mbit, enc)
		}
		if enc, _ := e.Encode(random(block.ExtentSize)); enc != wire.EncodingRaw {
			t.Errorf("at %v Mbit/s encoding %d for random data", test.mbit, enc)
		}
	}
	if enc, _ := NewEncoder(wire.CompressAuto).Encode(data); enc != wire.EncodingRaw {
		t.Errorf("encoding %d on a line of which nothing is known", enc)
	}
}

// One frame during which the processor did something else does not end compressing for good.
func TestLine_Interrupted(t *testing.T) {
	l := newLine()
	l.wrote(1<<20, 80<<20) // 80 ns for a byte: 100 Mbit/s
	for enc := range l.cost {
		l.encoded(enc, 4096, 10*time.Millisecond)
	}
	if got := l.choose(0.3); l.fast() || got != wire.EncodingZstd {
		t.Errorf("fast: %v, encoding %d", l.fast(), got)
	}
}

func TestLine_choose(t *testing.T) {
	for _, test := range []struct {
		send, ratio float64
		want        wire.Encoding
	}{
		{0.5, 0.1, wire.EncodingRaw},
		{1.5, 0.9, wire.EncodingRaw},
		{3, 0.3, wire.EncodingS2},
		{8, 0.95, wire.EncodingRaw},
		{8, 0.3, wire.EncodingS2},
		{80, 0.5, wire.EncodingZstd},
		{800, 0.95, wire.EncodingRaw},
	} {
		l := newLine()
		l.send = test.send
		if got := l.choose(test.ratio); got != test.want {
			t.Errorf("%+v: encoding %d", test, got)
		}
	}
}

func TestDecoder_Refuses(t *testing.T) {
	data := text(50_000)
	for _, mode := range []wire.Compression{wire.CompressS2, wire.CompressZstd} {
		enc, out := NewEncoder(mode).Encode(data)
		out = bytes.Clone(out)
		var d Decoder
		for _, n := range []int{0, 1, 49_999} {
			if _, err := d.Decode(enc, out, n); !errors.Is(err, ErrCorrupted) {
				t.Errorf("encoding %d as %d bytes: %v", enc, n, err)
			}
		}
		if _, err := d.Decode(enc, out[:len(out)/2], len(data)); !errors.Is(err, ErrCorrupted) {
			t.Errorf("encoding %d cut: %v", enc, err)
		}
		_, bomb := NewEncoder(mode).Encode(make([]byte, block.ExtentSize))
		if _, err := d.Decode(enc, bomb, 100); !errors.Is(err, ErrCorrupted) {
			t.Errorf("encoding %d, more than asked for: %v", enc, err)
		}
	}
	if _, err := new(Decoder).Decode(wire.EncodingNone, nil, 0); !errors.Is(err, ErrCorrupted) {
		t.Errorf("no data: %v", err)
	}
}

// Whatever comes, it is an error or at most n bytes.
func FuzzDecoder(f *testing.F) {
	for _, mode := range []wire.Compression{wire.CompressS2, wire.CompressZstd} {
		enc, out := NewEncoder(mode).Encode(text(5000))
		f.Add(uint8(enc), bytes.Clone(out), 5000)
	}
	f.Fuzz(func(t *testing.T, enc uint8, data []byte, n int) {
		n = min(max(n, 0), block.ExtentSize)
		var d Decoder
		out, err := d.Decode(wire.Encoding(enc), data, n)
		if err == nil && enc != 0 && len(out) > n {
			t.Errorf("%d bytes, more than %d", len(out), n)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	for name, data := range map[string][]byte{"text": text(block.ExtentSize), "random": random(block.ExtentSize)} {
		for mode, as := range map[wire.Compression]string{wire.CompressS2: "s2", wire.CompressZstd: "zstd"} {
			b.Run(name+"/"+as, func(b *testing.B) {
				e := NewEncoder(mode)
				b.SetBytes(block.ExtentSize)
				n := 0
				for b.Loop() {
					_, out := e.Encode(data)
					n = len(out)
				}
				b.ReportMetric(float64(n)/block.ExtentSize, "ratio")
			})
		}
	}
}
