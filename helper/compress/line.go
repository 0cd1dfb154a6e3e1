package compress

import (
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// line is what is known of the speed of a line and of the processor at this end,
// all in nanoseconds for a byte.
//
// Compressing and sending take turns, so a byte costs
//
//	raw         send
//	compressed  encode + ratio * send
//
// and the cheaper way is taken. When the line is fast, or the processor is what it
// waits for, sending costs less than encoding, and nothing is compressed.
type line struct {
	send float64                   // 0 before the first Wrote
	cost map[wire.Encoding]float64 // of encoding compressible data
}

// What is assumed before it is measured: about the figures of one core of 2022.
const (
	s2Cost   = 1.3
	zstdCost = 3.5
	// zstdGain is how much smaller zstd makes what s2 makes smaller.
	zstdGain = 0.7
	// memory is the share of the past in each figure.
	memory = 0.8
)

func newLine() line {
	return line{cost: map[wire.Encoding]float64{wire.EncodingS2: s2Cost, wire.EncodingZstd: zstdCost}}
}

// blend is the moving average of old and what n bytes took.
func blend(old float64, n int, took time.Duration) float64 {
	now := float64(took) / float64(n)
	if old == 0 {
		return now
	}
	return memory*old + (1-memory)*now
}

// wrote tells that n bytes took that long to send. Small frames only fill buffers.
func (l *line) wrote(n int, took time.Duration) {
	if n >= minSize {
		l.send = blend(l.send, n, took)
	}
}

// encoded tells that n bytes took that long to encode. One measurement counts no more than
// four times the figure so far: the processor may have done something else meanwhile, and
// what seems too dear is not tried again.
func (l *line) encoded(enc wire.Encoding, n int, took time.Duration) {
	most := time.Duration(4 * l.cost[enc] * float64(n))
	l.cost[enc] = blend(l.cost[enc], n, min(took, most))
}

// fast tells that no ratio can make encoding worthwhile.
func (l *line) fast() bool { return l.send <= l.cost[wire.EncodingS2] }

// choose takes the cheapest way for data that s2 makes smaller by ratio.
func (l *line) choose(ratio float64) wire.Encoding {
	if ratio > worthwhile {
		return wire.EncodingRaw
	}
	best, cheapest := wire.EncodingRaw, worthwhile*l.send
	for _, way := range []struct {
		enc   wire.Encoding
		ratio float64
	}{{wire.EncodingS2, ratio}, {wire.EncodingZstd, zstdGain * ratio}} {
		if c := l.cost[way.enc] + way.ratio*l.send; c < cheapest {
			best, cheapest = way.enc, c
		}
	}
	return best
}
