package device

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func TestList_Directory(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	writeFile(t, at("b.img"), pattern(300))
	writeFile(t, at(partialName("x")), pattern(3))
	if err := os.Mkdir(at("sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := []string{"b.img", "sub"}
	if runtime.GOOS != "windows" {
		for name, to := range map[string]string{
			"a-link": "b.img", "dir-link": "sub", "dangling": "nowhere", "loop-link": "loop-link",
			"core": "/proc/self/status", "null": "/dev/null",
		} {
			if err := os.Symlink(to, at(name)); err != nil {
				t.Fatal(err)
			}
		}
		want = []string{"a-link", "b.img", "sub"}
	}
	list, err := List(dir)
	if err != nil || len(list) != len(want) {
		t.Fatalf("%+v, %v", list, err)
	}
	for i, info := range list {
		if info.Name != want[i] {
			t.Errorf("entry %d is %q, want %q", i, info.Name, want[i])
		}
		if got, err := Stat(at(info.Name)); err != nil || got != info {
			t.Errorf("Stat says %+v, %v; List %+v", got, err, info)
		}
		if info.Kind == File && (info.Size != 300 || info.ModTime.IsZero() || info.BlockSize != 0) {
			t.Errorf("%+v", info)
		}
	}
	if list[0].Kind == File && list[0].Name == "a-link" && list[0].ID != list[1].ID {
		t.Error("a symlink and its file have different identities")
	}
	for _, path := range []string{at("none"), at("b.img")} {
		if _, err := List(path); !errors.Is(err, ErrNotFound) {
			t.Errorf("List(%s): %v", path, err)
		}
	}
}

func TestTree_Operations(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	deep := filepath.Join(dir, "a", "b", "c")
	for range 2 {
		if err := Mkdir(deep); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(deep, "disk.img")
	writeFile(t, file, pattern(10))
	when := time.Date(2001, 2, 3, 4, 5, 6, 700, time.UTC)
	if err := SetTime(file, when); err != nil {
		t.Fatal(err)
	}
	if info, _ := Stat(file); !info.ModTime.Truncate(time.Microsecond).Equal(when.Truncate(time.Microsecond)) {
		t.Errorf("time is %v", info.ModTime)
	}
	tests := []struct {
		name string
		err  error
		want error
	}{
		{"RmdirFull", Rmdir(deep), ErrNotEmpty},
		{"RmdirFile", Rmdir(file), ErrNotFound},
		{"RmdirNone", Rmdir(at("none")), ErrNotFound},
		{"RemoveDir", Remove(deep), ErrIsDir},
		{"RemoveNone", Remove(at("none")), ErrNotFound},
		{"MkdirUnderFile", Mkdir(filepath.Join(file, "x")), ErrNotFound},
		{"SetTimeNone", SetTime(at("none"), when), ErrNotFound},
		{"OpenDir", second(OpenRead(deep)), ErrIsDir},
		{"OpenNone", second(OpenRead(at("none"))), ErrNotFound},
		{"WriteDir", second(OpenWrite(deep, WriteOptions{})), ErrIsDir},
		{"Remove", Remove(file), nil},
		{"Rmdir", Rmdir(deep), nil},
	}
	for _, tt := range tests {
		if !errors.Is(tt.err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, tt.err, tt.want)
		}
	}
	wantNames(t, dir, "a")
	u, err := StatFS(dir)
	if err != nil || u.Total <= 0 || u.Available > u.Free || u.Free > u.Total {
		t.Errorf("%+v, %v", u, err)
	}
}

func second(_ *Object, err error) error { return err }

func TestError_Error(t *testing.T) {
	perr := &os.PathError{Op: "open", Path: "/x", Err: os.ErrPermission}
	tests := []struct {
		err  error
		want string
	}{
		{fail("stat", "/x", &os.PathError{Op: "stat", Path: "/x", Err: os.ErrNotExist}), "stat /x: file does not exist"},
		{failAt("read", "/x", 4096, errors.New("bad sector")), "read /x at byte 4096: bad sector"},
		{failSpan("read", "/x", 4096, 512, errors.New("bad sector")), "read 512 bytes of /x at byte 4096: bad sector"},
		{fail("open", "/x", perr), "/x: cannot be opened by this user: become root, with sudo, or join the group that owns it (permission denied)"},
		{refuse(ErrBusy, "open", "/x", "in use: it is %s", "swap"), "/x: in use: it is swap"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	if err := fail("open", "/x", perr); !errors.Is(err, ErrPermission) || errors.Is(err, ErrIO) || !errors.Is(err, os.ErrPermission) {
		t.Error("kind or cause of a wrapped error is lost")
	}
	inner := refuse(ErrBusy, "open", "/x", "in use")
	if fail("open", "/y", inner) != inner {
		t.Error("an error of ours is wrapped again")
	}
	if fail("open", "/y", nil) != nil {
		t.Error("no error becomes one")
	}
}
