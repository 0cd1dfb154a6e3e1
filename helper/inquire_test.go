package helper

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// A root is what a transfer would have in its summary.
func TestServe_Root(t *testing.T) {
	for _, size := range edges.Sizes() {
		for _, content := range edges.Contents() {
			data := content.Make(size, 3)
			c := connect(t, Policy{})
			c.call(openRead(file(t, "image", data)), new(wire.Opened))
			c.send(wire.NewSend(rangeOf(int64(size)), delta.Window))
			want, err := delta.Receive(context.Background(), c, memdev.New(int64(size)), rangeOf(int64(size)), delta.Window)
			if _, err2 := c.end(); err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			var sum wire.Sum
			c.call(&wire.Root{Length: int64(size), BlockSize: block.DefaultSize}, &sum)
			if sum.Digest != want.Root {
				t.Errorf("%d %s: another root", size, content.Name)
			}
			c.fails(wire.CodeProtocol, &wire.Root{Length: int64(size) + 1, BlockSize: block.DefaultSize})
			c.hangUp()
		}
	}
}

// All that is known of a file comes, however much it is.
func TestServe_Describe(t *testing.T) {
	path := file(t, "image", make([]byte, 4096))
	c := connect(t, Policy{ReadOnly: true})
	var m wire.Properties
	c.call(describe(path), &m)
	found := map[string]string{}
	for _, p := range m.Properties {
		found[p.Key] = p.Value
	}
	if found["kind"] != "file" || found["path"] != path || found["size"] != "4096" {
		t.Errorf("%v", found)
	}
	c.hangUp()
}

// What is on an object is told only when it was asked for, and only of what may be read.
func TestServe_DescribeLook(t *testing.T) {
	const uuid = "01234567-89ab-cdef-0123-456789abcdef"
	data := make([]byte, 4096)
	copy(data, "XFSB")
	copy(data[32:], "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef")
	path := file(t, "image", data)
	c := connect(t, Policy{ReadOnly: true, Allow: []string{path}})
	for look, want := range map[bool]string{false: "", true: "ids=uuid=" + uuid + "; content=xfs " + uuid} {
		req := describe(path).(*wire.Describe)
		req.Look = look
		var m wire.Properties
		c.call(req, &m)
		var got []string
		for _, p := range m.Properties {
			if p.Key == "ids" || p.Key == "content" {
				got = append(got, p.Key+"="+p.Value)
			}
		}
		if text := strings.Join(got, "; "); text != want {
			t.Errorf("look %v: %s", look, text)
		}
	}
	other := describe(file(t, "other", data)).(*wire.Describe)
	other.Look = true
	c.fails(wire.CodeRefused, other)
	c.hangUp()
}

// Whoever asks, a target that is not the expected one is refused with a code of its own, and one that is can be
// completed with its partition table read again, which a file does not have.
func TestServe_OpenExpect(t *testing.T) {
	data := make([]byte, 4096)
	copy(data, "XFSB")
	copy(data[32:], "0123456789abcdef")
	path := file(t, "image", data)
	c := connect(t, Policy{})
	req := &wire.Open{Write: true, Lead: true, Claim: wire.Claim{1}, Size: 8192, Expect: "serial=1"}
	req.Path = path
	c.fails(wire.CodeIdentity, req)
	req.Expect, req.Pins = "", []string{"serial=1"}
	c.fails(wire.CodeIdentity, req)
	req.Pins, req.Kind = nil, wire.KindBlock
	c.fails(wire.CodeRefused, req)
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, data) {
		t.Errorf("it has changed: %v", err)
	}
	req.Expect, req.Kind = "30313233-3435-3637-3839-616263646566", wire.KindFile
	var m wire.Opened
	if c.call(req, &m); len(m.IDs) != 1 || m.Lasting != 0 || len(m.Content) != 1 {
		t.Errorf("%+v", m)
	}
	c.call(&wire.Close{Commit: true, Reread: true}, nil)
	c.hangUp()
}

func TestServe_DescribeMuch(t *testing.T) {
	require.Need(t, require.Loop)
	path := file(t, "image", make([]byte, 4096))
	for range wire.MaxDirectory + 1 {
		harness.LoopOn(t, path)
	}
	c := connect(t, Policy{})
	c.send(describe(path))
	all, err := c.end()
	if err != nil {
		t.Fatal(err)
	}
	uses := 0
	for _, f := range all {
		var m wire.Properties
		if err := f.Decode(&m); err != nil {
			t.Fatal(err)
		}
		for _, p := range m.Properties {
			if p.Key == "in-use" {
				uses++
			}
		}
	}
	if uses != wire.MaxDirectory+1 || len(all) != 2 {
		t.Errorf("%d uses in %d frames", uses, len(all))
	}
	c.hangUp()
}

func TestServe_Ping(t *testing.T) {
	c := connect(t, Policy{ReadOnly: true})
	for _, n := range []int64{0, 1, readChunk, 3*readChunk + 7} {
		c.send(&wire.Ping{Bytes: n})
		frames, err := c.end()
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for _, f := range frames {
			var m wire.Data
			if err := f.Decode(&m); err != nil || m.Offset != int64(len(got)) {
				t.Fatalf("data at %d instead of %d, %v", m.Offset, len(got), err)
			}
			got = append(got, m.Data...)
		}
		if int64(len(got)) != n {
			t.Errorf("%d bytes, not %d", len(got), n)
		}
		var small bytes.Buffer
		w, _ := flate.NewWriter(&small, flate.BestCompression)
		w.Write(got)
		if w.Close(); int64(small.Len()) < n {
			t.Errorf("%d bytes were compressed to %d", n, small.Len())
		}
	}
	c.send(&wire.Ping{Bytes: 1 << 50})
	if f, ok := c.next(); !ok || f.Type != wire.TypeData {
		t.Errorf("%+v", f)
	}
	c.send(&wire.Cancel{})
	if _, err := c.end(); !errors.Is(err, wire.CodeCancelled) {
		t.Errorf("got %v", err)
	}
	c.usable()
	c.hangUp()
}

// compares has the helper say what it would take for the object that is open to become data.
func (c *client) compares(data []byte) (*wire.Summary, error) {
	c.t.Helper()
	r := rangeOf(int64(len(data)))
	m := wire.NewReceive(r, delta.Window)
	m.Compare = true
	c.send(m)
	if _, err := delta.CompareSend(c.t.Context(), c, memdev.FromBytes(data), r, delta.Window); err != nil {
		return nil, err
	}
	frames, err := c.end()
	sum := new(wire.Summary)
	if err == nil {
		err = frames[len(frames)-1].Decode(sum)
	}
	return sum, err
}

// What a comparison says is what the copy then does, also where it makes the image longer or shorter.
func TestServe_Compare(t *testing.T) {
	for _, size := range edges.Sizes() {
		source := edges.Contents()[1].Make(size, 1)
		for _, target := range edges.Targets(source) {
			if target.Data == nil {
				continue
			}
			path := file(t, "image", target.Data)
			c := connect(t, Policy{ReadOnly: true})
			c.call(openRead(path), new(wire.Opened))
			said, err := c.compares(source)
			if err != nil {
				t.Fatalf("%d %s: %v", size, target.Name, err)
			}
			c.hangUp()
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, target.Data) {
				t.Fatalf("%d %s: the comparison wrote, %v", size, target.Name, err)
			}
			c = connect(t, Policy{})
			c.call(openWrite(path, int64(size)), new(wire.Opened))
			r := rangeOf(int64(size))
			c.send(wire.NewReceive(r, delta.Window))
			if _, err := delta.Send(t.Context(), c, memdev.FromBytes(source), r, delta.Window, compress.NewEncoder(wire.CompressAuto)); err != nil {
				t.Fatal(err)
			}
			frames, err := c.end()
			var did wire.Summary
			if err != nil || frames[len(frames)-1].Decode(&did) != nil {
				t.Fatal(err)
			}
			if said.Equal != did.Equal || said.Data != did.Data || said.Zeroed != did.Zeroed || said.Root != did.Root {
				t.Errorf("%d %s: said %+v, did %+v", size, target.Name, said, did)
			}
			c.hangUp()
		}
	}
}

// A comparison is for what is open for reading, and the other way round.
func TestServe_ErrCompare(t *testing.T) {
	require.Need(t, require.Loop)
	path := file(t, "image", make([]byte, 8192))
	dry := wire.NewReceive(rangeOf(4096), 8)
	dry.Compare = true
	c := connect(t, Policy{})
	c.fails(wire.CodeProtocol, dry)
	c.call(openWrite(path, 8192), new(wire.Opened))
	c.fails(wire.CodeProtocol, dry)
	c.call(&wire.Close{}, nil)
	c.call(openRead(path), new(wire.Opened))
	c.fails(wire.CodeProtocol, wire.NewReceive(rangeOf(4096), 8))
	c.call(&wire.Close{}, nil)
	c.call(openRead(harness.Loop(t, 1<<20).Path), new(wire.Opened))
	long := wire.NewReceive(rangeOf(1<<20+512), 8)
	long.Compare = true
	c.fails(wire.CodeProtocol, long)
	c.usable()
	c.hangUp()
}
