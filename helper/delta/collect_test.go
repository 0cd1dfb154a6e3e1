package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// changes is what Collect has found, by extent.
type changes map[int64]Change

func (all changes) add(c *Change) error {
	kept := *c
	kept.Runs, kept.Data, kept.Encoded = slices.Clone(c.Runs), bytes.Clone(c.Data), bytes.Clone(c.Encoded)
	all[c.Extent] = kept
	return nil
}

// apply is old with the changes.
func (all changes) apply(old []byte, blockSize int) []byte {
	now := bytes.Clone(old)
	for i, c := range all {
		e := now[i*block.ExtentSize:][:c.Length]
		clear(e)
		data := c.Data
		for _, r := range c.Runs {
			data = data[copy(e[int(r.First)*blockSize:min(len(e), (int(r.First)+int(r.Count))*blockSize)], data):]
		}
	}
	return now
}

// gathering is a transfer from now to who knows the digests of old.
func gathering(known []block.Digest, now []byte, window int64, all changes) *transfer {
	return &transfer{src: memdev.FromBytes(now), window: window, buffer: 1 << 16, inbox: 4, r: rangeOf(len(now), 4096),
		receive: func(ctx context.Context, l Link, _ Target, r block.Range, window int64) (*wire.Summary, error) {
			return Collect(ctx, l, r, window, known, all.add)
		}}
}

// variants are contents that differ from each other in all ways.
func variants(size int) map[string][2][]byte {
	dense, half := edges.Contents()[1].Make(size, 1), edges.Contents()[2].Make(size, 2)
	few := bytes.Clone(dense)
	for at := 4000; at < size; at += 1500 << 10 {
		few[at] ^= 1
	}
	if size > 1<<20 {
		clear(few[:1<<20])
	}
	zero := make([]byte, size)
	return map[string][2][]byte{"equal": {dense, bytes.Clone(dense)}, "few": {dense, few}, "other": {dense, half}, "from nothing": {zero, half}, "to nothing": {dense, zero}}
}

// What has changed since digests were made is collected, and delivered to who has what the digests are of.
func TestCollect(t *testing.T) {
	for _, size := range append(edges.Sizes(), 18<<20) {
		for _, window := range []int64{1, 16} {
			for name, v := range variants(size) {
				t.Run(fmt.Sprintf("%s %d by %d", name, size, window), func(t *testing.T) {
					old, now, all := v[0], v[1], changes{}
					known := digestsOf(t, old)
					want := digestsOf(t, now)
					changed := 0
					for i := range want {
						if known[i] != want[i] {
							changed++
						}
					}
					s, r := gathering(known, now, window, all).run(t)
					if s.err != nil || r.err != nil {
						t.Fatalf("%v, %v", s.err, r.err)
					}
					if !slices.Equal(known, want) || r.sum.Root != wantRoot(now, 4096) || !bytes.Equal(all.apply(old, 4096), now) || len(all) != changed {
						t.Errorf("%d of %d changes, %+v", len(all), changed, r.sum)
					}
					if r.sum.Equal+r.sum.Data+r.sum.Zeroed != int64(size) {
						t.Errorf("%+v", r.sum)
					}
					delivered(t, old, now, window, all)
				})
			}
		}
	}
}

// delivered fails unless old becomes now by what was collected, of which only what differs is written.
func delivered(t *testing.T, old, now []byte, window int64, all changes) {
	t.Helper()
	dev, want := memdev.FromBytes(old), digestsOf(t, now)
	tr := transfer{tgt: dev, window: window, buffer: 1 << 16, inbox: 4, r: rangeOf(len(now), 4096),
		send: func(ctx context.Context, l Link, _ Source, r block.Range, window int64) (*wire.Summary, error) {
			return Deliver(ctx, l, r, window, want, all.patch)
		}}
	s, r := tr.run(t)
	if s.err != nil || r.err != nil {
		t.Fatalf("%v, %v", s.err, r.err)
	}
	blocks := int64(0)
	for at := 0; at < len(now); at += 4096 {
		if end := min(at+4096, len(now)); !bytes.Equal(old[at:end], now[at:end]) {
			blocks += int64(end - at)
		}
	}
	if !bytes.Equal(dev.Bytes(), now) || s.sum.Root != wantRoot(now, 4096) || r.sum.Data+r.sum.Zeroed != blocks || dev.Counts().Syncs != 1 {
		t.Errorf("%d bytes differ, %+v %+v", blocks, s.sum, r.sum)
	}
	if s.sum.Equal+s.sum.Data+s.sum.Zeroed != int64(len(now)) {
		t.Errorf("%+v", s.sum)
	}
}

var errMissing = errors.New("not kept")

func (all changes) patch(p *wire.Patch) error {
	c, ok := all[p.Extent]
	if !ok {
		return errMissing
	}
	p.Runs, p.Encoding, p.Data = append(p.Runs, c.Runs...), c.Encoding, c.Encoded
	return nil
}

// A patch that was not right comes again, once.
func TestCollect_Resend(t *testing.T) {
	v := variants(1 << 20)["other"]
	for times := 1; times <= 2; times++ {
		all, left := changes{}, times
		tr := gathering(digestsOf(t, v[0]), v[1], 16, all)
		tr.prepare = func(_, receiver *link) {
			receiver.edit = func(f *wire.Frame) {
				if f.Type == wire.TypePatch && left > 0 {
					left--
					f.Payload[len(f.Payload)-1] ^= 1
				}
			}
		}
		tr.compress = wire.CompressOff
		_, r := tr.run(t)
		if times == 1 && (r.err != nil || !bytes.Equal(all.apply(v[0], 4096), v[1])) {
			t.Errorf("once: %v", r.err)
		}
		if times == 2 && (!errors.Is(r.err, wire.CodeCorrupted) || len(all) > 0) {
			t.Errorf("twice: %v", r.err)
		}
	}
}

// What the receiver lacks and nobody has kept ends the delivery; so does what was kept and is not right.
func TestDeliver_Err(t *testing.T) {
	v := variants(3 << 20)["few"]
	for name, tt := range map[string]struct {
		patch func(*wire.Patch) error
		want  error
	}{
		"missing": {changes{}.patch, errMissing},
		"damaged": {func(p *wire.Patch) error {
			p.Runs, p.Data = append(p.Runs, wire.Run{Count: 1}), make([]byte, 4096)
			return nil
		}, wire.CodeCorrupted},
	} {
		dev, want := memdev.FromBytes(v[0]), digestsOf(t, v[1])
		tr := transfer{tgt: dev, window: 16, buffer: 1 << 16, inbox: 4, r: rangeOf(len(v[0]), 4096),
			send: func(ctx context.Context, l Link, _ Source, r block.Range, window int64) (*wire.Summary, error) {
				return Deliver(ctx, l, r, window, want, tt.patch)
			}}
		if s, r := tr.run(t); !errors.Is(s.err, tt.want) || r.err == nil {
			t.Errorf("%s: %v, %v", name, s.err, r.err)
		}
		if name == "damaged" && !bytes.Equal(dev.Bytes()[1<<20:], v[0][1<<20:]) {
			t.Error("damaged data was written")
		}
	}
}

// A receiver that ends with another root has not what was sent.
func TestDeliver_ErrRoot(t *testing.T) {
	known := digestsOf(t, image(victimSize, 1))
	synctest.Test(t, func(t *testing.T) {
		err := play(func(ctx context.Context, l Link) error {
			_, err := Deliver(ctx, l, rangeOf(victimSize, 4096), 2, known, func(*wire.Patch) error { return errMissing })
			return err
		}, digests(0, known[:2]...), digests(2, known[2:]...), &wire.Finished{Root: known[0]})
		if !errors.Is(err, wire.CodeCorrupted) {
			t.Errorf("%v", err)
		}
	})
}

func TestDeliver_ErrProtocol(t *testing.T) {
	other, zero := block.Sum([]byte("other")), block.ZeroExtent(block.ExtentSize, 4096)
	for _, tt := range []struct {
		name     string
		messages []wire.Message
	}{
		{"digests out of order", []wire.Message{digests(1, other)}},
		{"digests over the limit", []wire.Message{digests(0, other, other, other)}},
		{"digests over the end", []wire.Message{digests(0, zero), applied(0), digests(1, other, other, other)}},
		{"blocks", []wire.Message{digests(0, other), blocks(0, 256)}},
		{"applied nothing", []wire.Message{applied(0)}},
		{"applied far away", []wire.Message{applied(1 << 60)}},
		{"applied twice", []wire.Message{digests(0, other, other), applied(0), applied(0)}},
		{"resend of nothing", []wire.Message{resend(0)}},
		{"resend far away", []wire.Message{resend(1 << 60)}},
		{"finished at once", []wire.Message{&wire.Finished{}}},
		{"a frame of a sender", []wire.Message{want(0)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			known := digestsOf(t, image(victimSize, 1))
			synctest.Test(t, func(t *testing.T) {
				err := play(func(ctx context.Context, l Link) error {
					_, err := Deliver(ctx, l, rangeOf(victimSize, 4096), 2, known, func(*wire.Patch) error { return nil })
					return err
				}, tt.messages...)
				if !errors.Is(err, wire.CodeProtocol) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

func TestCollect_ErrProtocol(t *testing.T) {
	d, one := block.Sum([]byte("other")), wire.Run{Count: 1}
	for _, tt := range []struct {
		name     string
		messages []wire.Message
		want     error
	}{
		{"floor over what was announced", []wire.Message{&wire.Advance{Floor: 3, Limit: 3}}, wire.CodeProtocol},
		{"floor far away", []wire.Message{&wire.Advance{Floor: 1 << 60, Limit: 1 << 60}}, wire.CodeProtocol},
		{"floor goes back", []wire.Message{&wire.Advance{Floor: 2, Limit: 3}, &wire.Advance{Floor: 1, Limit: 3}}, wire.CodeProtocol},
		{"want of what was not announced", []wire.Message{want(2)}, wire.CodeProtocol},
		{"want twice", []wire.Message{want(0), want(0)}, wire.CodeProtocol},
		{"want of what is settled", []wire.Message{&wire.Advance{Floor: 1, Limit: 2}, want(0)}, wire.CodeProtocol},
		{"patch of what was not announced", []wire.Message{patch(2, d, 0)}, wire.CodeProtocol},
		{"patch far away", []wire.Message{patch(1<<60, d, 0)}, wire.CodeProtocol},
		{"patch of what is settled", []wire.Message{&wire.Advance{Floor: 1, Limit: 2}, patch(0, d, 0)}, wire.CodeProtocol},
		{"patch without its data", []wire.Message{patch(0, d, 4095, one)}, wire.CodeProtocol},
		{"patch with too much data", []wire.Message{patch(0, d, 4097, one)}, wire.CodeProtocol},
		{"run past the extent", []wire.Message{patch(0, d, 4096, wire.Run{First: 256, Count: 1})}, wire.CodeProtocol},
		{"run past the end", []wire.Message{&wire.Advance{Floor: 1, Limit: 3}, patch(2, d, 3*4096, wire.Run{Count: 3})}, wire.CodeProtocol},
		{"a comparison", []wire.Message{&wire.Patch{Digest: d, Encoding: wire.EncodingNone}}, wire.CodeProtocol},
		{"wrong twice", []wire.Message{patch(0, d, 4096, one), patch(0, d, 4096, one)}, wire.CodeCorrupted},
		{"finish at once", []wire.Message{&wire.Finish{}}, wire.CodeProtocol},
		{"another root", []wire.Message{&wire.Advance{Floor: 2, Limit: 3}, &wire.Advance{Floor: 3, Limit: 3}, &wire.Finish{}}, wire.CodeCorrupted},
		{"a frame of a receiver", []wire.Message{applied(0)}, wire.CodeProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			known := digestsOf(t, image(victimSize, 1))
			synctest.Test(t, func(t *testing.T) {
				err := play(func(ctx context.Context, l Link) error {
					_, err := Collect(ctx, l, rangeOf(victimSize, 4096), 2, known, func(*Change) error {
						t.Error("a change")
						return nil
					})
					return err
				}, tt.messages...)
				if !errors.Is(err, tt.want) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}
