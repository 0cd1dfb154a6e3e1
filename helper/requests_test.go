package helper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// pathRequest makes a request that has nothing but a path.
func pathRequest[T any, M interface {
	*T
	wire.Message
}](path func(M) *string, value string) wire.Message {
	m := M(new(T))
	*path(m) = value
	return m
}

func list(p string) wire.Message {
	return pathRequest(func(m *wire.List) *string { return &m.Path }, p)
}
func mkdir(p string) wire.Message {
	return pathRequest(func(m *wire.Mkdir) *string { return &m.Path }, p)
}
func rmdir(p string) wire.Message {
	return pathRequest(func(m *wire.Rmdir) *string { return &m.Path }, p)
}
func remove(p string) wire.Message {
	return pathRequest(func(m *wire.Remove) *string { return &m.Path }, p)
}
func statFS(p string) wire.Message {
	return pathRequest(func(m *wire.StatFS) *string { return &m.Path }, p)
}

func describe(p string) wire.Message {
	return pathRequest(func(m *wire.Describe) *string { return &m.Path }, p)
}

func setTime(p string, when time.Time) wire.Message {
	m := &wire.SetTime{ModTime: when.UnixNano()}
	m.Path = p
	return m
}

func TestServe_Objects(t *testing.T) {
	root := tree(t, "disk.img", "dir/", "link -> disk.img", "dir/old.img")
	c := connect(t, Policy{})
	when := time.Date(2021, 2, 3, 4, 5, 6, 123456789, time.UTC)
	c.call(setTime(root+"/disk.img", when), nil)
	var entry, link wire.Entries
	c.call(stat(root+"/disk.img"), &entry)
	c.call(stat(root+"/link"), &link)
	e, l := entry.Entries[0], link.Entries[0]
	if e.Name != "disk.img" || e.Kind != wire.KindFile || e.Size != 7 || e.ModTime != when.UnixNano() || e.ID == "" {
		t.Errorf("%+v", e)
	}
	if l.Name != "link" || l.ID != e.ID {
		t.Errorf("%+v", l)
	}
	c.call(mkdir(root+"/a/b"), nil)
	c.call(mkdir(root+"/a/b"), nil)
	var all wire.Entries
	c.call(list(root), &all)
	var names []string
	for _, e := range all.Entries {
		names = append(names, fmt.Sprint(e.Name, e.Kind))
	}
	if got := strings.Join(names, " "); got != "a3 dir3 disk.img1 link1" {
		t.Errorf("listed %s", got)
	}
	c.call(rmdir(root+"/a/b"), nil)
	c.call(remove(root+"/dir/old.img"), nil)
	for _, gone := range []string{"/a/b", "/dir/old.img"} {
		if _, err := os.Lstat(root + gone); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", gone, err)
		}
	}
	var u wire.Usage
	c.call(statFS(root), &u)
	if u.Total <= 0 || u.Free > u.Total || u.Available > u.Free {
		t.Errorf("%+v", u)
	}
	c.hangUp()
}

// A directory of any size comes in batches.
func TestServe_LongList(t *testing.T) {
	root := t.TempDir()
	c := connect(t, Policy{})
	for n := range 3*wire.MaxDirectory + 1 {
		c.send(list(root))
		all, err := c.end()
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, f := range all {
			var m wire.Entries
			if err := f.Decode(&m); err != nil {
				t.Fatal(err)
			}
			for i, e := range m.Entries {
				if want := fmt.Sprintf("%03d%s", count+i, strings.Repeat("x", 250)); e.Name != want {
					t.Fatalf("entry %s, want %s", e.Name, want)
				}
			}
			count += len(m.Entries)
		}
		if count != n {
			t.Fatalf("%d of %d entries", count, n)
		}
		if err := os.WriteFile(filepath.Join(root, fmt.Sprintf("%03d%s", n, strings.Repeat("x", 250))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.hangUp()
}

func TestServe_Errors(t *testing.T) {
	root := tree(t, "disk.img", "dir/", "dir/file", "dangling -> nowhere")
	long := "/" + strings.Repeat("x", wire.MaxPath-1)
	c := connect(t, Policy{})
	for _, r := range []struct {
		code wire.Code
		req  wire.Message
	}{
		{wire.CodeNotFound, stat(root + "/none")},
		{wire.CodeNotFound, stat(root + "/disk.img/none")},
		{wire.CodeNotFound, stat(root + "/dangling")},
		{wire.CodeNotFile, stat("/dev/null")},
		{wire.CodeRefused, stat("relative")},
		{wire.CodeRefused, stat(strings.Repeat("x", wire.MaxPath))},
		{wire.CodeNotFound, list(root + "/none")},
		{wire.CodeNotFound, rmdir(root + "/none")},
		{wire.CodeNotEmpty, rmdir(root + "/dir")},
		{wire.CodeNotFound, remove(root + "/none")},
		{wire.CodeIsDir, remove(root + "/dir")},
		{wire.CodeNotFile, remove("/dev/null")},
		{wire.CodeRefused, mkdir("/dev/blockdev-test")},
		{wire.CodeRefused, mkdir("/proc/blockdev-test")},
		{wire.CodeNotFound, setTime(root+"/none", time.Now())},
		{wire.CodeNotFile, openRead("/dev/null")},
		{wire.CodeNotFile, openWrite("/dev/null", 1)},
		{wire.CodeNotFound, openRead(root + "/none")},
		{wire.CodeIsDir, openRead(root + "/dir")},
		{wire.CodeIsDir, openWrite(root+"/dir", 1)},
		{wire.CodeRefused, openWrite("/dev/blockdev-test", 1)},
		{wire.CodeRefused, openWrite(root+"/dangling", 1)},
		{wire.CodeProtocol, &wire.Read{Length: 1, Window: 1, Compress: wire.CompressOff}},
		{wire.CodeProtocol, &wire.Hash{}},
		{wire.CodeProtocol, &wire.Root{BlockSize: 4096}},
		{wire.CodeNotFound, describe(root + "/none")},
		{wire.CodeNotFile, describe("/dev/null")},
		{wire.CodeProtocol, wire.NewSend(rangeOf(1), 1)},
		{wire.CodeProtocol, wire.NewReceive(rangeOf(1), 1)},
	} {
		c.fails(r.code, r.req)
	}
	for _, m := range []wire.Message{stat(long), list(long), mkdir(long), openRead(long), openWrite(long, 1)} {
		c.send(m)
		if _, err := c.end(); err == nil {
			t.Errorf("%T of a name that is too long", m)
		}
	}
	c.call(&wire.Close{}, nil) // nothing is open, and that is fine
	c.usable()
	c.hangUp()
}

// A payload that does not fit its type ends the request, not the session.
func TestServe_BadPayload(t *testing.T) {
	c := connect(t, Policy{})
	for typ := wire.TypeStat; typ <= wire.TypePing; typ++ {
		for _, payload := range []string{"\x00", "\xff\xff", strings.Repeat("\xff", 100), strings.Repeat("\x00", 100)} {
			c.bytes(string(rune(typ)) + "\x00\x00\x00\x00\x00\x00" + string(rune(len(payload))) + payload)
			if _, err := c.end(); !errors.Is(err, wire.CodeProtocol) {
				t.Errorf("%#x with %q: %v", typ, payload, err)
			}
		}
	}
	c.usable()
	c.hangUp()
}

func TestServe_Open(t *testing.T) {
	path := file(t, "disk.img", bytes.Repeat([]byte("x"), 10000))
	c := connect(t, Policy{})
	var o wire.Opened
	c.call(openRead(path), &o)
	if o.Path != path || o.Size != 10000 || o.Entry.Kind != wire.KindFile || o.Entry.Name != "disk.img" {
		t.Errorf("%+v", o)
	}
	c.fails(wire.CodeProtocol, openRead(path))
	c.fails(wire.CodeProtocol, wire.NewReceive(rangeOf(10000), 1))
	for _, r := range []struct{ off, n int64 }{{0, 10001}, {10001, 0}, {9999, 2}, {1 << 62, 1 << 61}} {
		c.fails(wire.CodeProtocol, &wire.Read{Offset: r.off, Length: r.n, Window: 1, Compress: wire.CompressOff})
	}
	c.fails(wire.CodeProtocol, wire.NewSend(rangeOf(10001), 1))
	c.call(&wire.Close{}, nil)
	c.call(openWrite(path, 20000), &o)
	if o.Size != 20000 {
		t.Errorf("%+v", o)
	}
	c.fails(wire.CodeProtocol, wire.NewReceive(rangeOf(20001), 1))
	other := connect(t, Policy{})
	m := openWrite(path, 20000)
	m.Claim = wire.Claim{2}
	other.fails(wire.CodeBusy, m)
	other.usable()
	c.call(&wire.Close{}, nil)
	other.call(m, &o)
	other.hangUp()
	c.hangUp()
}

func TestServe_NoSpace(t *testing.T) {
	require.Need(t, require.Root, require.Mount)
	dir := smallDisk(t, 256<<10)
	c := connect(t, Policy{})
	c.call(openWrite(dir+"/image", 1<<20), new(wire.Opened))
	err := c.sends(bytes.Repeat([]byte("x"), 1<<20))
	if !errors.Is(err, wire.CodeNoSpace) {
		t.Errorf("got %v", err)
	}
	c.usable()
	c.call(&wire.Close{}, nil)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	c.hangUp()
}

// The device goes away for good, and every byte with it: what is told is where.
func TestServe_InputError(t *testing.T) {
	require.Need(t, require.Loop)
	d := harness.Loop(t, 4<<20)
	if err := os.Truncate(d.Backing, 1<<20); err != nil {
		t.Fatal(err)
	}
	c := connect(t, Policy{})
	c.call(openRead(d.Path), new(wire.Opened))
	c.send(&wire.Read{Length: 4 << 20, Window: 4 << 20, Compress: wire.CompressOff})
	_, err := c.end()
	var we *wire.Error
	if !errors.As(err, &we) || we.Code != wire.CodeIO || we.Offset < 1<<20 || !strings.Contains(we.Text, d.Path) {
		t.Errorf("%+v", we)
	}
	c.usable()
	c.hangUp()
}
