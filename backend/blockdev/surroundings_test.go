//go:build linux

package blockdev

import (
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// snapshooting is a directory with images, and programs that take snapshots of them by copying.
type snapshooting struct {
	t   *testing.T
	dir string
}

func newSnapshooting(t *testing.T, names ...string) *snapshooting {
	t.Helper()
	s := &snapshooting{t, t.TempDir()}
	t.Setenv("BLOCKDEV_STATE_DIR", filepath.Join(s.dir, "state"))
	s.write("take", "#!/bin/sh\ncp \"$BLOCKDEV_PATH\" \"$BLOCKDEV_PATH.snap\"; echo take >>"+s.dir+"/log; echo \"$BLOCKDEV_PATH.snap\"\n")
	s.write("drop", "#!/bin/sh\nrm -f \"$BLOCKDEV_PATH.snap\"; echo drop >>"+s.dir+"/log\n")
	s.write("hook", "#!/bin/sh\necho $BLOCKDEV_HOOK $BLOCKDEV_OUTCOME >>"+s.dir+"/log\n")
	for _, name := range names {
		s.write(name, strings.Repeat(name+" before ", 1<<18))
	}
	return s
}

func (s *snapshooting) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

// change makes an image another one of the same size.
func (s *snapshooting) change(name string) {
	s.write(name, strings.Repeat(name+" after! ", 1<<18))
}

func (s *snapshooting) log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", ", ")
}

func (s *snapshooting) fs(more string) fs.Fs {
	s.t.Helper()
	s.t.Cleanup(host.CloseIdle)
	f := newFs(s.t, "blockdev,snapshot=command,snapshot_command="+s.dir+"/take,snapshot_remove_command="+s.dir+"/drop"+more+":localhost"+s.dir)
	s.t.Cleanup(func() { _ = f.Features().Shutdown(s.t.Context()) })
	return f
}

func (s *snapshooting) read(o fs.Object, options ...fs.OpenOption) string {
	s.t.Helper()
	rc, err := o.Open(s.t.Context(), options...)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := io.ReadAll(rc)
	if err = errors.Join(err, rc.Close()); err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// nothingLeft fails when the host still has a set.
func (s *snapshooting) nothingLeft() {
	s.t.Helper()
	left, _ := filepath.Glob(s.dir + "/*.snap")
	state, _ := filepath.Glob(s.dir + "/state/*")
	if len(left)+len(state) > 0 {
		s.t.Errorf("left %v %v", left, state)
	}
}

// Pieces that are read one after the other are of one snapshot, which goes when the end was read.
func TestSurroundings_Pieces(t *testing.T) {
	s := newSnapshooting(t, "img")
	f := s.fs(",before_read=" + s.dir + "/hook,after_read=" + s.dir + "/hook")
	if !f.Features().NoMultiThreading {
		t.Error("rclone would read several ranges at once, at times of its own")
	}
	o := find(t, f, "img")
	got := s.read(o, &fs.RangeOption{Start: 0, End: 11})
	s.change("img")
	got += s.read(o, &fs.SeekOption{Offset: 12})
	if got != strings.Repeat("img before ", 1<<18) {
		t.Error("the pieces are not of one moment")
	}
	if log := s.log(); log != "before_read, take, drop, after_read success" {
		t.Errorf("did %s", log)
	}
	s.nothingLeft()
	if got := s.read(o); !strings.HasPrefix(got, "img after! img") {
		t.Errorf("the next one reads %.20q", got)
	}
	s.nothingLeft()
}

// A delta is of a snapshot, which is gone when it is written.
func TestSurroundings_Delta(t *testing.T) {
	s := newSnapshooting(t, "img")
	f := s.fs(",after_read=" + s.dir + "/hook")
	if _, err := runCommand(t, f, "delta", nil, "img", t.TempDir()+"/0.delta"); err != nil {
		t.Fatal(err)
	}
	if log := s.log(); log != "take, drop, after_read success" {
		t.Errorf("did %s", log)
	}
	s.nothingLeft()
}

// Snapshots of a group are taken before the first is read, and go when all were read.
func TestSurroundings_Group(t *testing.T) {
	s := newSnapshooting(t, "a", "b", "c")
	f := s.fs(`,snapshot_group="` + s.dir + "/a," + s.dir + `/b"`)
	a, b := find(t, f, "a"), find(t, f, "b")
	s.read(a)
	s.change("b")
	if log := s.log(); log != "take, take" {
		t.Errorf("did %s", log)
	}
	if got := s.read(b); !strings.HasPrefix(got, "b before b") {
		t.Errorf("b is of another moment: %.20q", got)
	}
	if log := s.log(); log != "take, take, drop, drop" {
		t.Errorf("did %s", log)
	}
	s.nothingLeft()
	s.read(find(t, f, "c")) // alone
	s.nothingLeft()

	s.read(a) // and no other
	if log := s.log(); strings.Count(log, "take") != 5 || strings.Count(log, "drop") != 3 {
		t.Errorf("did %s", log)
	}
	if err := f.Features().Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	s.nothingLeft()
}

// While rclone runs, what is still to be read of a group waits for it, however long that takes.
func TestSurroundings_GroupWaits(t *testing.T) {
	s := newSnapshooting(t, "a", "b")
	f := s.fs(`,retry_time=0,snapshot_group="` + s.dir + "/a," + s.dir + `/b"`)
	a, b := find(t, f, "a"), find(t, f, "b")
	s.read(a)
	s.change("b")
	host.CloseIdle()
	time.Sleep(7 * time.Second) // more than the host waits at least
	if got := s.read(b); !strings.HasPrefix(got, "b before b") {
		t.Errorf("b is of another moment: %.20q", got)
	}
	s.nothingLeft()
}

// A set that is gone is not replaced by one that does not fit what was read before.
func TestSurroundings_Gone(t *testing.T) {
	s := newSnapshooting(t, "a", "b")
	f := s.fs(`,snapshot_group="` + s.dir + "/a," + s.dir + `/b"`)
	a, b := find(t, f, "a"), find(t, f, "b")
	s.read(a)
	on, err := host.Get(host.Config{Host: host.Localhost}).Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owner, err := filepath.Glob(s.dir + "/state/*.lock")
	if err != nil || len(owner) != 1 {
		t.Fatalf("%v, %v", owner, err)
	}
	id, err := hex.DecodeString(strings.TrimSuffix(filepath.Base(owner[0]), ".lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := on.Conclude(t.Context(), &wire.Conclude{Owner: wire.Claim(id), Wait: true}); err != nil {
		t.Fatal(err)
	}
	on.Release()
	if rc, err := b.Open(t.Context()); !errors.Is(err, errGone) || !fserrors.IsNoLowLevelRetryError(err) {
		t.Errorf("opened %v, %v", rc, err)
	}
	s.nothingLeft()
	s.change("a")
	s.change("b")
	for _, o := range []fs.Object{a, b} { // the whole command again
		if got := s.read(o); !strings.HasPrefix(got, o.Remote()+" after!") {
			t.Errorf("%s is of another moment: %.20q", o, got)
		}
	}
	s.nothingLeft()
}

// A copy that fails leaves nothing, and does not wait for another try.
func TestSurroundings_Failed(t *testing.T) {
	s := newSnapshooting(t, "img")
	f := s.fs(",after_read=" + s.dir + "/hook")
	o := find(t, f, "img")
	_, err := here(t, "/proc").Features().Copy(t.Context(), o, "img")
	if err == nil {
		t.Fatal("copied")
	}
	if log := s.log(); log != "take, drop, after_read failed" {
		t.Errorf("did %s", log)
	}
	s.nothingLeft()
}

// A snapshot that is gone before the end makes what was read void.
func TestSurroundings_Void(t *testing.T) {
	s := newSnapshooting(t, "img")
	o := find(t, s.fs(""), "img")
	rc, err := o.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.dir + "/img.snap"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, rc); !errors.Is(err, wire.CodeNotFound) {
		t.Errorf("got %v", err)
	}
	if err := rc.Close(); err != nil {
		t.Error(err)
	}
}

// A hook that fails keeps a target as it is, and rclone does not try again.
func TestSurroundings_BeforeWrite(t *testing.T) {
	s := newSnapshooting(t, "img", "target")
	s.write("log", "")
	src := find(t, here(t, s.dir), "img")
	f := newFs(t, "blockdev,before_write=false,after_write="+s.dir+"/hook:localhost"+s.dir)
	_, err := f.Features().Copy(t.Context(), src, "target")
	if err == nil || !fserrors.IsNoRetryError(err) || !strings.Contains(err.Error(), "before_write: false: exit status 1") {
		t.Errorf("got %v", err)
	}
	same(t, s.dir+"/target", []byte(strings.Repeat("target before ", 1<<18)))
	if log := s.log(); log != "after_write failed" {
		t.Errorf("did %s", log)
	}
	s.nothingLeft()
}

func TestOptions_Space(t *testing.T) {
	for text, want := range map[string]string{"": "", "20%": "20%", "10Gi": "10737418240", "1": "1024", "-1": "x", "much": "x"} {
		got, err := (&Options{Surroundings: Surroundings{SnapshotSize: text}}).space()
		if (err != nil) != (want == "x") || err == nil && got != want {
			t.Errorf("%q is %q, %v", text, got, err)
		}
	}
}

// A target that lacks what could not be read is none that a hook may start something from.
func TestSurroundings_Unreadable(t *testing.T) {
	const size = 5 << 20
	d := failingDevice(t, make([]byte, size), 3<<20)
	s := newSnapshooting(t)
	src := find(t, newFs(t, "blockdev,read_errors=zero:localhost/dev/"), filepath.Base(d.Path))
	f := newFs(t, "blockdev,after_write="+s.dir+"/hook:localhost"+s.dir)
	if _, err := f.Features().Copy(t.Context(), src, "image"); err == nil {
		t.Fatal("no error")
	}
	if log := s.log(); log != "after_write failed" {
		t.Errorf("did %q", log)
	}
}
