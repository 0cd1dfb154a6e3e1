package deltafile

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const unit = 4096

// size is that of the new state of the samples: three extents, the last one of 5 bytes.
const size = 2<<20 + 5

// content is a new state of one extent that has not changed, one that has, and a short one.
func content() []byte {
	b := make([]byte, size)
	copy(b, strings.Repeat("same", 1000))
	copy(b[1<<20:], strings.Repeat("new", 5000))
	copy(b[1<<20+100*unit:], "more")
	copy(b[2<<20:], "short")
	return b
}

// digest is the extent digest of an extent.
func digest(b []byte) block.Digest {
	return block.ExtentDigest(block.Digests(make([]block.Digest, block.Count(len(b), unit)), b, unit))
}

// records are those of the sample: the middle one compressed.
func records() []Record {
	b := content()
	enc := compress.NewEncoder(wire.CompressZstd)
	raw := slices.Concat(b[1<<20:][:4*unit], b[1<<20+100*unit:][:unit])
	how, data := enc.Encode(raw)
	return []Record{
		{1, digest(b[1<<20 : 2<<20]), how, []wire.Run{{Count: 4}, {First: 100, Count: 1}}, bytes.Clone(data)},
		{2, digest(b[2<<20:]), wire.EncodingRaw, []wire.Run{{Count: 1}}, []byte("short")},
	}
}

func header() Header {
	return Header{BlockSize: unit, Size: size, BaseSize: 1 << 20, BaseRoot: block.Sum([]byte("base")), Base: []byte(`{"base":1}`)}
}

// manifestOf is the manifest of the sample.
func manifestOf(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := manifest.NewWriter(&out, manifest.Header{BlockSize: unit, Size: size, Of: size, Path: "x"})
	for extent := range slices.Chunk(content(), block.ExtentSize) {
		if err == nil {
			err = w.Add(digest(extent))
		}
	}
	if err == nil {
		_, err = w.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// sample is a whole delta.
func sample(t testing.TB, h Header, records []Record, m []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if err := w.Add(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish([]byte(`{"new":1}`), bytes.NewReader(m), int64(len(m)), block.Digest(m[len(m)-2*digestSize:])); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// read reads all of a delta.
func read(in io.Reader) (h Header, all []Record, e *End, err error) {
	r, err := NewReader(in)
	if err != nil {
		return h, nil, nil, err
	}
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return h, all, nil, err
		}
		kept := *rec
		kept.Runs, kept.Data = slices.Clone(rec.Runs), bytes.Clone(rec.Data)
		all = append(all, kept)
	}
	e, err = r.End("test")
	return r.Header, all, e, err
}

func TestReader(t *testing.T) {
	want, m := records(), manifestOf(t)
	b := sample(t, header(), want, m)
	if want[0].Encoding != wire.EncodingZstd || len(want[0].Data) > 1000 {
		t.Errorf("encoding %d, %d bytes", want[0].Encoding, len(want[0].Data))
	}
	h, got, e, err := read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Manifest.Close()
	equal := slices.EqualFunc(got, want, func(a, b Record) bool {
		return a.Extent == b.Extent && a.Digest == b.Digest && a.Encoding == b.Encoding && slices.Equal(a.Runs, b.Runs) && bytes.Equal(a.Data, b.Data)
	})
	if !equal || h.BaseRoot != header().BaseRoot || h.Size != size || h.BaseSize != 1<<20 || string(h.Base) != `{"base":1}` || h.Full() {
		t.Errorf("%+v, %d records", h, len(got))
	}
	if string(e.Receipt) != `{"new":1}` || e.Root != e.Manifest.Root || e.Manifest.Size != size {
		t.Errorf("%+v", e)
	}
	end, err := ReadEnd(int64(len(b)), "test", ranges(b))
	if err != nil {
		t.Fatal(err)
	}
	defer end.Manifest.Close()
	if end.Root != e.Root || string(end.Receipt) != `{"new":1}` || end.Manifest.Sum != e.Manifest.Sum {
		t.Errorf("%+v", end)
	}
}

func ranges(b []byte) func(off, n int64) (io.ReadCloser, error) {
	return func(off, n int64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b[off : off+n])), nil }
}

// The layout of docs/deltas.md, byte by byte.
func TestWriter_Bytes(t *testing.T) {
	b := sample(t, header(), records()[1:], manifestOf(t))
	u := func(b []byte, parts ...any) []byte {
		for _, p := range parts {
			b, _ = binary.Append(b, binary.BigEndian, p)
		}
		return b
	}
	h := header()
	want := u([]byte("\x89BDD\r\n\x1a\n"), uint32(1), uint32(4096), uint32(1<<20), int64(size), int64(1<<20), h.BaseRoot, uint32(10))
	want = append(want, `{"base":1}`...)
	end := len(want) + 1 + 8 + 32 + 1 + 2 + 4 + 4 + 5
	want = u(want, uint8(1), int64(2), digest([]byte("short")), uint8(0), uint16(1), uint16(0), uint16(1), uint32(5))
	want = append(want, "short"...)
	want = u(want, uint8(2), uint32(9))
	want = append(want, `{"new":1}`...)
	m := manifestOf(t)
	want = append(u(want, int64(len(m))), m...)
	want = u(want, int64(end), int64(1), m[len(m)-64:len(m)-32])
	want = u(want, sha256.Sum256(want))
	if !bytes.Equal(b, want) {
		t.Errorf("got  %x\nwant %x", b, want)
	}
}

// Every single byte that is lost, changed or added is found, and nothing is read of less than the whole.
func TestReader_ErrDamage(t *testing.T) {
	b := sample(t, header(), records(), manifestOf(t))
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1 << (i % 8)
		if _, _, _, err := read(bytes.NewReader(bad)); !errors.Is(err, ErrFormat) {
			t.Fatalf("byte %d of %d: %v", i, len(b), err)
		}
		if _, _, _, err := read(bytes.NewReader(b[:i])); !errors.Is(err, ErrFormat) {
			t.Fatalf("%d of %d bytes: %v", i, len(b), err)
		}
	}
	if _, _, _, err := read(bytes.NewReader(append(b, 0))); !errors.Is(err, ErrFormat) {
		t.Errorf("one more: %v", err)
	}
	full := errors.New("disk on fire")
	if _, _, _, err := read(io.MultiReader(bytes.NewReader(b[:500]), failing{full})); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	for i := 0; i < len(b); i += 7 { // the records are not looked at
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if e, err := ReadEnd(int64(len(b)), "test", ranges(bad)); err == nil {
			_ = e.Manifest.Close()
		} else if !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d: %v", i, err)
		}
		if e, err := ReadEnd(int64(i), "test", ranges(b)); err == nil {
			t.Errorf("%d bytes: %+v", i, e)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestHeader_Err(t *testing.T) {
	for name, change := range map[string]func(h *Header){
		"block size":          func(h *Header) { h.BlockSize = 1000 },
		"size":                func(h *Header) { h.Size = -1 },
		"huge":                func(h *Header) { h.Size = 1<<62 + 1 },
		"base size":           func(h *Header) { h.BaseSize = -2 },
		"full with a root":    func(h *Header) { h.BaseSize, h.Base = -1, nil },
		"full with a base":    func(h *Header) { h.BaseSize, h.BaseRoot = -1, block.Digest{} },
		"too large a receipt": func(h *Header) { h.Base = make([]byte, MaxReceipt+1) },
	} {
		h := header()
		change(&h)
		if _, err := NewWriter(io.Discard, h); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What a record cannot be is refused by who writes it and by who reads it.
func TestRecord_Err(t *testing.T) {
	for name, change := range map[string]func(r *Record){
		"extent":       func(r *Record) { r.Extent = 3 },
		"negative":     func(r *Record) { r.Extent = -1 },
		"no runs":      func(r *Record) { r.Runs, r.Data = nil, nil },
		"empty run":    func(r *Record) { r.Runs[0].Count = 0 },
		"zero run":     func(r *Record) { r.Runs[0].Zero = true },
		"descending":   func(r *Record) { slices.Reverse(r.Runs) },
		"touching":     func(r *Record) { r.Runs[1].First = 4 },
		"past the end": func(r *Record) { r.Runs[1].First = 256 },
		"encoding":     func(r *Record) { r.Encoding = wire.EncodingS2 },
		"none":         func(r *Record) { r.Encoding = wire.EncodingNone },
		"short":        func(r *Record) { r.Encoding = wire.EncodingRaw },
		"long":         func(r *Record) { r.Data = make([]byte, 5*unit+1) },
	} {
		all := records()
		change(&all[0])
		w, err := NewWriter(io.Discard, header())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Add(&all[0]); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: written with %v", name, err)
		}
		if err := new(Checker).Check(&w.h, &all[0]); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: checked with %v", name, err)
		}
	}
	h, zero := header(), Record{1, block.ZeroExtent(1<<20, unit), wire.EncodingRaw, []wire.Run{{Count: 1}}, make([]byte, unit)}
	if err := new(Checker).Check(&h, &zero); !errors.Is(err, ErrFormat) {
		t.Errorf("zeros: %v", err)
	}
	other := records()[0]
	other.Digest[0]++
	if err := new(Checker).Check(&h, &other); !errors.Is(err, ErrFormat) {
		t.Errorf("another digest: %v", err)
	}
}

func TestJoined(t *testing.T) {
	got := Joined(nil, []wire.Run{{First: 0, Count: 2}, {First: 2, Count: 1}, {Zero: true, First: 3, Count: 1}, {First: 4, Count: 1}, {First: 6, Count: 1}, {First: 7, Count: 9}})
	if want := []wire.Run{{First: 0, Count: 3}, {First: 4, Count: 1}, {First: 6, Count: 10}}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

// Reading ends without a panic, and what is accepted has no other bytes. The last 32 bytes are set right, so that
// what is before them is looked at.
func FuzzReader(f *testing.F) {
	for _, h := range []Header{header(), {BlockSize: unit, Size: size, BaseSize: -1}} {
		b := sample(f, h, records(), manifestOf(f))
		f.Add(b[:len(b)-digestSize])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := sha256.Sum256(b)
		b = append(bytes.Clone(b), sum[:]...)
		h, all, e, err := read(bytes.NewReader(b))
		if end, err := ReadEnd(int64(len(b)), "test", ranges(b)); err == nil {
			_ = end.Manifest.Close()
		} else if !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Error(err)
			}
			return
		}
		defer e.Manifest.Close()
		var out bytes.Buffer
		w, err := NewWriter(&out, h)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			if err := w.Add(&all[i]); err != nil {
				t.Fatal(err)
			}
		}
		at := bytes.LastIndex(b, []byte("\x89BDM\r\n\x1a\n"))
		m := b[at : len(b)-TrailerSize]
		if err := w.Finish(e.Receipt, bytes.NewReader(m), int64(len(m)), e.Root); err != nil || !bytes.Equal(out.Bytes(), b) {
			t.Errorf("other bytes, %v", err)
		}
	})
}
