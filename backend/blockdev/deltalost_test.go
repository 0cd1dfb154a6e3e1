package blockdev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/backend/deltafile"
	"github.com/rclone-blockdev/rclone-blockdev/backend/receipt"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// A connection that is lost in the middle changes nothing of a delta and its application, also when the source has
// changed meanwhile.
func TestDeltas_Lost(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	f, relay := overSSH(t, dir)
	data := edges.Contents()[1].Make(40<<20, 3)
	write(t, dir+"/img", data)
	relay.CutAfter(15 << 20)
	out, err := runCommand(t, f, "delta", nil, "img", store+"/0.delta")
	if err != nil {
		t.Fatal(err)
	}
	if res := out.(*deltaResult); res.Wire < 40<<20 || res.Size != 40<<20 || res.Changed != 40<<20 {
		t.Errorf("%+v", res)
	}
	for at := 0; at < len(data); at += 2 << 20 {
		data[at] ^= 1
	}
	write(t, dir+"/img", data)
	relay.Reset()
	relay.CutAfter(8 << 20)
	if _, err := runCommand(t, f, "delta", map[string]string{"since": store + "/0.delta"}, "img", store+"/1.delta"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"new", "img"} { // one is made, the other one is there already
		relay.Reset()
		relay.CutAfter(12 << 20)
		if _, err := runCommand(t, f, "apply", nil, name, store); err != nil {
			t.Fatal(err)
		}
		same(t, dir+"/"+name, data)
	}
}

// An apply that lost its connection for good is completed when that is asked for.
func TestDeltas_LostForGood(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	f, relay := overSSH(t, dir)
	f.(*Fs).opt.RetryTime = 0
	old := edges.Contents()[1].Make(40<<20, 3)
	now := bytes.Clone(old)
	since := "none"
	for night, data := range [][]byte{old, now} {
		write(t, dir+"/img", data)
		name := fmt.Sprintf("%s/%d.delta", store, night)
		if _, err := runCommand(t, f, "delta", map[string]string{"since": since}, "img", name); err != nil {
			t.Fatal(err)
		}
		since = name
		for at := 5; at < len(now); at += 1 << 20 {
			now[at] ^= 1
		}
	}
	write(t, dir+"/img", old)
	for at := 5; at < len(now); at += 1 << 20 { // now is one round ahead
		now[at] ^= 1
	}
	relay.Reset()
	relay.CutAfter(10 << 20)
	if _, err := runCommand(t, f, "apply", nil, "img", since); !isLost(err) {
		t.Fatalf("%v", err)
	}
	relay.Reset()
	if _, err := runCommand(t, f, "apply", nil, "img", since); err == nil || !strings.Contains(err.Error(), "continue=true") {
		t.Errorf("%v", err)
	}
	if _, err := runCommand(t, f, "apply", map[string]string{"continue": "true"}, "img", since); err != nil {
		t.Error(err)
	}
	same(t, dir+"/img", now)
}

// What a try before has found, when the connection was lost, does not count any more when the source has changed
// again: to something else, to what it was first, or to zeros.
func TestDeltas_ChangesAgain(t *testing.T) {
	dir := t.TempDir()
	f := here(t, dir).(*Fs)
	old := edges.Contents()[1].Make(5<<20, 1)
	first, now := bytes.Clone(old), bytes.Clone(old)
	write(t, dir+"/img", old)
	if _, err := runCommand(t, f, "delta", nil, "img", dir+"/0.delta"); err != nil {
		t.Fatal(err)
	}
	for extent, change := range []func(first, now []byte){
		func(first, now []byte) { first[0] ^= 1; now[0] ^= 2 },
		func(first, now []byte) { first[0] ^= 1 },
		func(first, now []byte) { first[0] ^= 1; clear(now) },
		func(first, now []byte) { clear(first) },
		func(first, now []byte) { first[0] ^= 1; now[0] ^= 1 },
	} {
		change(first[extent<<20:][:1<<20], now[extent<<20:][:1<<20])
	}
	write(t, dir+"/img", now)
	at, err := f.below("img")
	if err != nil {
		t.Fatal(err)
	}
	base, err := remoteBase(t.Context(), dir+"/0.delta")
	if err != nil {
		t.Fatal(err)
	}
	defer base.close()
	c := &collecting{o: f.newObject("img", wire.Entry{}), from: at, base: base, report: &report{start: time.Now()}, sent: map[int64]*differing{}}
	c.resume = newResume(c.o)
	if err := c.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer c.source.close()
	if c.keeper, err = receipt.Keep(t.TempDir(), c.size(), 4096); err != nil {
		t.Fatal(err)
	}
	defer c.keeper.Close()
	var out bytes.Buffer
	if c.w, err = deltafile.NewWriter(&out, base.header(c.size())); err != nil {
		t.Fatal(err)
	}
	r := block.Range{Length: c.size(), BlockSize: 4096}
	for i := range int64(5) { // as a try before has left it
		e := first[i<<20:][:1<<20]
		ch := &delta.Change{Extent: i, Length: len(e), Digest: block.ExtentDigest(block.Digests(make([]block.Digest, 256), e, 4096)), Runs: []wire.Run{{Count: 256}}, Data: e, Encoded: e}
		if block.IsZero(e) {
			ch.Runs, ch.Data, ch.Encoded = nil, nil, nil
		}
		if err := c.add(r, ch, compress.NewEncoder(wire.CompressZstd)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/1.delta", out.Bytes())
	write(t, dir+"/img", old)
	if _, err := runCommand(t, f, "apply", nil, "img", dir+"/1.delta"); err != nil {
		t.Fatal(err)
	}
	same(t, dir+"/img", now)
	if got := c.report.outcome(); got.Changed != 4<<20 || got.Zeroed != 1<<20 || got.Equal != 0 {
		t.Errorf("%+v", got)
	}
}

// A delta that fails leaves nothing under its name or another, and no receipt.
func TestDeltas_Fails(t *testing.T) {
	dir, store := t.TempDir(), t.TempDir()
	f, relay := overSSH(t, dir)
	f.(*Fs).opt.Receipt, f.(*Fs).opt.RetryTime = t.TempDir(), 0
	write(t, dir+"/img", edges.Contents()[1].Make(40<<20, 3))
	relay.CutAfter(15 << 20)
	if _, err := runCommand(t, f, "delta", nil, "img", store+"/0.delta"); !isLost(err) {
		t.Errorf("%v", err)
	}
	for _, d := range []string{store, f.(*Fs).opt.Receipt} {
		if all, err := os.ReadDir(d); err != nil || len(all) != 0 {
			t.Errorf("left %v, %v", all, err)
		}
	}
}

// A remote that takes no more, and one that shows what is not whole.
func TestUpload(t *testing.T) {
	leakless(t)
	full := errors.New("quota exceeded")
	much := bytes.Repeat([]byte("data"), 1<<20)
	for name, tt := range map[string]struct {
		make func(w io.Writer) error
		put  func(store string, in io.Reader, src fs.ObjectInfo) error
		want error
	}{
		"fine": {make: func(w io.Writer) error { _, err := w.Write(much); return err }},
		"full": {func(w io.Writer) error { _, err := w.Write(much); return err },
			func(store string, in io.Reader, src fs.ObjectInfo) error { // leaves what it has
				_, _ = io.CopyN(io.Discard, in, 1<<20)
				return errors.Join(full, os.WriteFile(store+"/"+src.Remote(), []byte("half"), 0o600))
			}, full},
		"fails":          {make: func(w io.Writer) error { _, _ = w.Write(much); return full }, want: full},
		"fails at once":  {make: func(io.Writer) error { return full }, want: full},
		"ends too early": {make: func(w io.Writer) error { _, _ = w.Write(much[:10]); return io.ErrUnexpectedEOF }, want: io.ErrUnexpectedEOF},
	} {
		for _, partial := range []bool{true, false} {
			store := t.TempDir()
			remote, err := fs.NewFs(t.Context(), store)
			if err != nil {
				t.Fatal(err)
			}
			if !partial {
				remote.Features().PartialUploads = false
			}
			seen := ""
			if tt.put != nil {
				remote.Features().PutStream = func(_ context.Context, in io.Reader, src fs.ObjectInfo, _ ...fs.OpenOption) (fs.Object, error) {
					return nil, tt.put(store, in, src)
				}
			}
			u := &upload{remote, "x.delta"}
			n, err := u.write(t.Context(), func(w io.Writer) error {
				err := tt.make(w)
				if all, _ := os.ReadDir(store); len(all) > 0 {
					seen = all[0].Name()
				}
				return err
			})
			if !errors.Is(err, tt.want) || err == nil && n != int64(len(much)) {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
			if partial && seen == "x.delta" {
				t.Errorf("%s: it has its name before it is whole", name)
			}
			all, _ := os.ReadDir(store)
			if err != nil && len(all) > 0 || err == nil && (len(all) != 1 || all[0].Name() != "x.delta") {
				t.Errorf("%s: left %v, %v", name, all, err)
			}
		}
	}
}
