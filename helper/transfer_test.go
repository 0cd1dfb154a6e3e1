package helper

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// smallDisk mounts a file system of so many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=700,size="+strconv.Itoa(size), "none", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return dir
}

// sends has the helper receive data into what is open.
func (c *client) sends(data []byte) error {
	c.t.Helper()
	r := rangeOf(int64(len(data)))
	c.send(wire.NewReceive(r, delta.Window))
	if _, err := delta.Send(c.t.Context(), c, memdev.FromBytes(data), r, delta.Window, compress.NewEncoder(wire.CompressAuto)); err != nil {
		return err
	}
	_, err := c.end()
	return err
}

func TestServe_Receive(t *testing.T) {
	contents := edges.Contents()
	for i, size := range edges.Sizes() {
		for j := range edges.Targets(nil) { // what is written costs a disk, so not all contents for each
			content := contents[(i+j)%len(contents)]
			source := content.Make(size, 1)
			target := edges.Targets(source)[j]
			t.Run(strconv.Itoa(size)+"/"+content.Name+"/"+target.Name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "image")
				if target.Data != nil {
					path = file(t, "image", target.Data)
				}
				c := connect(t, Policy{})
				c.call(openWrite(path, int64(size)), new(wire.Opened))
				if err := c.sends(source); err != nil {
					t.Fatal(err)
				}
				when := time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC)
				c.call(&wire.Close{Commit: true, ModTime: when.UnixNano()}, nil)
				c.hangUp()
				got, err := os.ReadFile(path)
				if err != nil || !bytes.Equal(got, source) {
					t.Errorf("%d bytes of %d differ, %v", len(got), size, err)
				}
				if st, err := os.Stat(path); err != nil || !st.ModTime().Equal(when) {
					t.Errorf("%v, %v", st, err)
				}
			})
		}
	}
}

func TestServe_Send(t *testing.T) {
	for _, size := range edges.Sizes() {
		source := edges.Contents()[2].Make(size, 1)
		target := memdev.FromBytes(edges.Contents()[1].Make(size, 2))
		c := connect(t, Policy{})
		c.call(openRead(file(t, "image", source)), new(wire.Opened))
		r := rangeOf(int64(size))
		c.send(wire.NewSend(r, delta.Window))
		if _, err := delta.Receive(context.Background(), c, target, r, delta.Window); err != nil {
			t.Fatal(err)
		}
		if _, err := c.end(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(target.Bytes(), source) {
			t.Errorf("%d bytes: content differs", size)
		}
		c.hangUp()
	}
}

// A client that vanishes leaves a new image under its hidden name, where the next one goes on.
func TestServe_Reuses(t *testing.T) {
	data := edges.Contents()[1].Make(3<<20, 5)
	path := filepath.Join(t.TempDir(), "image")
	c := connect(t, Policy{})
	var o wire.Opened
	c.call(openWrite(path, int64(len(data))), &o)
	if err := c.sends(data[:2<<20]); err != nil {
		t.Fatal(err)
	}
	c.hangUp()
	if _, err := os.Stat(path); err == nil {
		t.Fatal("an incomplete image has its name")
	}
	partial := o.Path
	if filepath.Dir(partial) != filepath.Dir(path) || !strings.HasPrefix(filepath.Base(partial), ".") {
		t.Errorf("kept as %s", partial)
	}

	c = connect(t, Policy{})
	c.call(openWrite(path, int64(len(data))), &o)
	if o.Path != partial {
		t.Errorf("goes on with %s, not %s", o.Path, partial)
	}
	r := rangeOf(int64(len(data)))
	c.send(wire.NewReceive(r, delta.Window))
	sum, err := delta.Send(t.Context(), c, memdev.FromBytes(data), r, delta.Window, compress.NewEncoder(wire.CompressAuto))
	if err != nil {
		t.Fatal(err)
	}
	if sum.Data != 1<<20 || sum.Equal != 2<<20 {
		t.Errorf("%+v", sum)
	}
	if _, err := c.end(); err != nil {
		t.Fatal(err)
	}
	c.call(&wire.Close{Commit: true, ModTime: 1}, nil)
	c.hangUp()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("content differs, %v", err)
	}
	if _, err := os.Stat(partial); err == nil {
		t.Error("the hidden name stays")
	}
}

// Close without Commit removes what is new and keeps what was there.
func TestServe_Aborts(t *testing.T) {
	dir := t.TempDir()
	c := connect(t, Policy{})
	c.call(openWrite(dir+"/new", 1<<20), new(wire.Opened))
	c.call(&wire.Close{}, nil)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	old := file(t, "old", bytes.Repeat([]byte("old"), 1000))
	c.call(openWrite(old, 1000), new(wire.Opened))
	c.call(&wire.Close{}, nil)
	if st, err := os.Stat(old); err != nil || st.Size() != 3000 {
		t.Errorf("%v, %v", st, err)
	}
	c.hangUp()
}

// A file that loses its end while it is open must not be read as one that ends in zeros.
func TestServe_SourceIsCut(t *testing.T) {
	for name, read := range map[string]func(c *client) error{
		"send": func(c *client) error {
			c.send(wire.NewSend(rangeOf(4<<20), delta.Window))
			_, err := delta.Receive(c.t.Context(), c, memdev.New(4<<20), rangeOf(4<<20), delta.Window)
			return err
		},
		"read": func(c *client) error {
			c.send(&wire.Read{Length: 4 << 20, Window: 1 << 40, Compress: wire.CompressOff})
			_, err := c.end()
			return err
		},
		"hash": func(c *client) error {
			c.send(&wire.Hash{})
			_, err := c.end()
			return err
		},
	} {
		for _, left := range []int64{0, 1, 2 << 20, 4<<20 - 1} {
			path := file(t, "image", bytes.Repeat([]byte("x"), 4<<20))
			c := connect(t, Policy{})
			c.call(openRead(path), new(wire.Opened))
			if err := os.Truncate(path, left); err != nil {
				t.Fatal(err)
			}
			if err := read(c); !errors.Is(err, wire.CodeIO) {
				t.Errorf("%s with %d bytes left: %v", name, left, err)
			}
			c.usable()
			c.hangUp()
		}
	}
}
