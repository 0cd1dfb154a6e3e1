package blockdev

import (
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// pieceSize is how much, in bytes, is done again at most when a connection breaks
// often, or kept in memory to be sent again. Each piece ends with a sync.
const pieceSize = 32 << 20

// part is a range that is done as a whole or not at all.
type part struct {
	block.Range
	counted int64 // bytes from its start that were shown as progress before
}

// meter shows progress on p, what was shown before excepted.
func (p *part) meter(progress func(n int64)) func(n int64) {
	at := int64(0)
	return func(n int64) {
		if at += n; at > p.counted {
			progress(at - p.counted)
			p.counted = at
		}
	}
}

// pieces cuts p, after a connection broke in the middle of it: with smaller ones
// there is progress also when the next one does not last.
func (p *part) pieces() []part {
	var all []part
	for at := int64(0); at < p.Length; at += pieceSize {
		n := min(pieceSize, p.Length-at)
		r := block.Range{Offset: p.Offset + at, Length: n, BlockSize: p.BlockSize}
		all = append(all, part{r, min(max(p.counted-at, 0), n)})
	}
	return all
}

// parts are the ranges of a transfer.
type parts struct {
	mu   sync.Mutex
	todo []part // hold mu
	done []part // whose content is durable; hold mu
}

func newParts(ranges []block.Range) *parts {
	p := new(parts)
	for _, r := range ranges {
		p.todo = append(p.todo, part{Range: r})
	}
	return p
}

// next takes the next part to be done: up to n that were not begun and lie one
// behind the other are one.
func (p *parts) next(n int) (x part, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.todo) == 0 {
		return x, false
	}
	x, p.todo = p.todo[0], p.todo[1:]
	for ; n > 1 && len(p.todo) > 0 && x.counted+p.todo[0].counted == 0 && p.todo[0].Offset == x.Offset+x.Length; n-- {
		x.Length += p.todo[0].Length
		p.todo = p.todo[1:]
	}
	return x, true
}

// finish notes that x is done.
func (p *parts) finish(x part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = append(p.done, x)
}

// giveBack has x done again.
func (p *parts) giveBack(x part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.todo = append(x.pieces(), p.todo...)
}

// add has x done too.
func (p *parts) add(x part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.todo = append(p.todo, x)
}

// forget has all done again.
func (p *parts) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.todo, p.done = append(p.done, p.todo...), nil
}

// left is how many parts are to be done.
func (p *parts) left() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.todo)
}
