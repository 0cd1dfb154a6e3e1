package blockdev

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// A source that grew or shrank since it was found is refused, and rclone, too, leaves the target as it was.
func TestFs_Copy_Resized(t *testing.T) {
	leakless(t)
	old := edges.Contents()[1].Make(1<<20, 1)
	for _, size := range []int64{0, 1<<20 - 1, 1<<20 + 1, 3 << 20} {
		from, to := t.TempDir(), t.TempDir()
		write(t, from+"/image", edges.Contents()[1].Make(1<<20, 2))
		write(t, to+"/image", old)
		src, dst := find(t, newFs(t, "blockdev:localhost"+from), "image"), newFs(t, "blockdev:localhost"+to)
		if err := os.Truncate(from+"/image", size); err != nil {
			t.Fatal(err)
		}
		if _, err := dst.Features().Copy(t.Context(), src, "image"); !errors.Is(err, wire.CodeSource) || !strings.Contains(err.Error(), "changes while") {
			t.Errorf("%d bytes: copy: %v", size, err)
		}
		same(t, to+"/image", old)
		if _, err := operations.Copy(t.Context(), dst, find(t, dst, "image"), "image", src); !errors.Is(err, wire.CodeSource) {
			t.Errorf("%d bytes: operations.Copy: %v", size, err)
		}
		same(t, to+"/image", old)
		if _, err := dst.Features().Copy(t.Context(), src, "new"); !errors.Is(err, wire.CodeSource) {
			t.Errorf("%d bytes: new: %v", size, err)
		}
		if left, _ := os.ReadDir(to); len(left) != 1 {
			t.Errorf("%d bytes: left %v", size, left)
		}
	}
}

// Every session of a transfer reads the file that the first one opened, or none.
func TestTarget_follow_replaced(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	f := here(t, from)
	write(t, from+"/image", make([]byte, 1<<20))
	write(t, from+"/other", make([]byte, 1<<20))
	src := find(t, f, "image").(*Object)
	at, err := src.fs.place(src.remote)
	if err != nil {
		t.Fatal(err)
	}
	source, err := openSource(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer source.close()
	o := newFs(t, "blockdev:localhost"+to).(*Fs).newObject("image", wire.Entry{})
	target, err := o.openTarget(t.Context(), src.Size())
	if err != nil {
		t.Fatal(err)
	}
	defer target.abort(nil)
	a, b, err := target.follow(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	a.close()
	b.close()
	if err := os.Rename(from+"/other", from+"/image"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := target.follow(t.Context(), source); !errors.Is(err, wire.CodeSource) || !strings.Contains(err.Error(), "/image") {
		t.Errorf("got %v", err)
	}
}

// A device is copied again by the same process although its size is the same.
func TestDevice_CopiedAgain(t *testing.T) {
	data := edges.Contents()[1].Make(1<<20, 1)
	d, f, o := loop(t, data)
	to := t.TempDir()
	local := newFs(t, to)
	for round := range 3 {
		if err := operations.CopyFile(t.Context(), local, f, "copy", o.Remote()); err != nil {
			t.Fatal(err)
		}
		same(t, to+"/copy", data)
		data = edges.Contents()[1].Make(len(data), uint64(round+2))
		write(t, d.Path, data)
	}
}

// Force is for the device it names: another one that is held is still refused.
func TestDevice_ForceOne(t *testing.T) {
	data := edges.Contents()[1].Make(1<<20, 1)
	d, _, o := loop(t, data)
	e, _, _ := loop(t, data)
	holder, err := os.OpenFile(d.Path, os.O_RDWR|os.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if _, err := put(newFs(t, "blockdev,force="+e.Path+":localhost/dev/"), filepath.Base(o.Remote()), make([]byte, 1<<20)); !errors.Is(err, wire.CodeBusy) {
		t.Errorf("forced by the name of another device: %v", err)
	}
	holds(t, d, data)
}

// A further stream is not opened on another machine that the same name leads to.
func TestLease_again(t *testing.T) {
	file := t.TempDir() + "/img"
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newFs(t, "blockdev:localhost"+filepath.Dir(file)).(*Fs)
	at, err := f.place("img")
	if err != nil {
		t.Fatal(err)
	}
	l, err := openSource(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	more, err := l.again(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	more.close()
	l.s.Hello.BootID = "another"
	if _, err := l.again(t.Context()); err == nil || !strings.Contains(err.Error(), "localhost leads to another machine") {
		t.Errorf("got %v", err)
	}
}
