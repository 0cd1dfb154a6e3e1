package helper

import (
	"context"
	crand "crypto/rand"
	"math/rand/v2"

	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// root sends the root of a range of what is open, and signs of life meanwhile.
func (s *session) root(r *request) error {
	var m wire.Root
	if err := r.frame.Decode(&m); err != nil {
		return err
	}
	o, err := s.openedRange(false, m.Offset, m.Length)
	if err != nil {
		return err
	}
	if err := s.findHoles(r, o, m.Offset, m.Length); err != nil {
		return err
	}
	digest, err := delta.Root(r.ctx, source{o}, m.Range(), func(done int64) error {
		return s.w.Write(&wire.Progress{Done: done})
	})
	if err != nil {
		return err
	}
	return s.w.Write(&wire.Sum{Digest: digest})
}

// describe sends all that is known of a path.
func (s *session) describe(r *request) error {
	m, err := decode(s, r, func(m *wire.Describe) *string { return &m.Path }, false)
	if err != nil {
		return err
	}
	facts, err := device.Describe(m.Path, m.Look)
	if err != nil {
		return err
	}
	for len(facts) > 0 {
		n := min(len(facts), wire.MaxDirectory)
		var batch wire.Properties
		for _, f := range facts[:n] {
			value := f.Value[:min(len(f.Value), wire.MaxName)]
			batch.Properties = append(batch.Properties, wire.Property{Key: f.Key, Value: value})
		}
		if err := s.w.Write(&batch); err != nil {
			return err
		}
		facts = facts[n:]
	}
	return nil
}

// ping sends random bytes, so that no compression on the way makes them fewer.
func (s *session) ping(r *request) error {
	var m wire.Ping
	if err := r.frame.Decode(&m); err != nil {
		return err
	}
	var seed [32]byte
	crand.Read(seed[:])
	random := rand.NewChaCha8(seed)
	buf := make([]byte, min(readChunk, m.Bytes))
	for off := int64(0); off < m.Bytes; {
		if err := context.Cause(r.ctx); err != nil {
			return err
		}
		data := wire.Data{Offset: off, Data: buf[:min(int64(len(buf)), m.Bytes-off)]}
		random.Read(data.Data)
		if err := s.w.Write(&data); err != nil {
			return err
		}
		off += int64(len(data.Data))
	}
	return nil
}
