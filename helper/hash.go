package helper

import (
	"context"
	"hash"
	"time"

	"github.com/minio/sha256-simd"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const (
	hashAhead     = 4           // chunks that are read ahead of the hash
	progressEvery = time.Second // between two Progress frames
)

// hashing is one running Hash. One goroutine reads, the other hashes what was
// read before: the time is that of the slower of both, not of their sum.
type hashing struct {
	o      *device.Object
	r      *request
	chunks chan hashChunk // from read to sum
	free   chan []byte    // from sum to read; has room for all buffers
	ticker *time.Ticker
	h      hash.Hash // owned by sum, like done
	done   int64     // bytes hashed
}

// hashChunk is n bytes: data, or a hole when that is nil.
type hashChunk struct {
	n    int64
	data []byte
}

// hash sends the SHA-256 of all of what is open, and signs of life meanwhile.
func (s *session) hash(r *request) error {
	if err := r.frame.Decode(&wire.Hash{}); err != nil {
		return err
	}
	o, err := s.opened(false)
	if err != nil {
		return err
	}
	if err := s.findHoles(r, o, 0, o.Size()); err != nil {
		return err
	}
	h := &hashing{
		o: o, r: r, h: sha256.New(), ticker: time.NewTicker(progressEvery),
		chunks: make(chan hashChunk, hashAhead), free: make(chan []byte, hashAhead),
	}
	defer h.ticker.Stop()
	for range hashAhead {
		h.free <- make([]byte, min(readChunk, o.Size()))
	}
	read := make(chan error, 1)
	go func() {
		defer close(h.chunks)
		read <- h.read()
	}()
	failed := h.sum()
	if failed != nil {
		r.cancel(failed)
	}
	for c := range h.chunks { // until read has ended
		if c.data != nil {
			h.free <- c.data
		}
	}
	if err := <-read; err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	var sum wire.Sum
	h.h.Sum(sum.Digest[:0])
	return r.Write(&sum)
}

// read fills chunks until all is read or the request is cancelled.
func (h *hashing) read() error {
	buf := func() []byte { return (<-h.free)[:min(readChunk, h.o.Size())] }
	read := func(b []byte, off int64) error { return readChunkOf(h.o, b, off) }
	return eachChunk(h.r.ctx, source{h.o}, 0, h.o.Size(), buf, read, func(off, n int64, data []byte) error {
		h.chunks <- hashChunk{n, data}
		return nil
	})
}

// sum hashes chunks until there are no more. It says how far it is also while a
// slow disk lets it wait.
func (h *hashing) sum() error {
	for {
		select {
		case c, ok := <-h.chunks:
			if !ok {
				return nil
			}
			if err := h.add(c); err != nil {
				return err
			}
		case <-h.ticker.C:
			if err := h.progress(); err != nil {
				return err
			}
		}
	}
}

// add hashes one chunk; a hole may be large and take long.
func (h *hashing) add(c hashChunk) error {
	if c.data != nil {
		h.h.Write(c.data)
		h.done += c.n
		h.free <- c.data
		return h.tick()
	}
	for end := h.done + c.n; h.done < end; {
		k := min(end-h.done, int64(len(zeroPage)))
		h.h.Write(zeroPage[:k])
		h.done += k
		if err := h.tick(); err != nil {
			return err
		}
	}
	return nil
}

// tick calls progress when it is time.
func (h *hashing) tick() error {
	select {
	case <-h.ticker.C:
		return h.progress()
	case <-h.r.ctx.Done():
		return context.Cause(h.r.ctx)
	default:
		return nil
	}
}

func (h *hashing) progress() error { return h.r.Write(&wire.Progress{Done: h.done}) }

// zeroPage stands for holes when they are hashed.
var zeroPage [readChunk]byte
