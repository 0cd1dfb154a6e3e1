package blockdev

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rclone/rclone/fs/config"
	"github.com/rclone/rclone/fs/fserrors"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Without an identity there is nothing to compare, which must be said; images have none of their own.
func TestPin_Nothing(t *testing.T) {
	l := listen(t)
	leakless(t)
	dir := t.TempDir()
	f := newFs(t, ":blockdev,pin_ids:localhost"+dir)
	for _, kind := range []wire.Kind{wire.KindBlock, wire.KindFile} {
		tg := &target{o: f.(*Fs).newObject("disk", wire.Entry{}), lead: &lease{opened: &wire.Opened{Entry: wire.Entry{Kind: kind}}}}
		tg.at, _ = f.(*Fs).place("disk")
		if err := tg.pin(); err != nil {
			t.Error(err)
		}
		if known, err := loadPin(tg.at); known != nil || err != nil {
			t.Errorf("remembered %v, %v", known, err)
		}
	}
	if n := strings.Count(l.text(), "has no identity that could be remembered"); n != 1 {
		t.Errorf("said %d times: %s", n, l.text())
	}
	if _, err := put(f, "new.img", []byte("data")); err != nil {
		t.Error(err)
	}
}

// Pins are kept with the configuration, and where there is none in the cache.
func TestPinFile(t *testing.T) {
	at := place{host.Get(host.Config{Host: "somewhere"}), "/dev/x"}
	file := config.GetConfigPath()
	if dir := filepath.Dir(pinFile(at)); dir != filepath.Join(filepath.Dir(file), "blockdev-pins") {
		t.Errorf("in %s, the configuration is %s", dir, file)
	}
	defer config.SetConfigPath(file)
	for _, none := range []string{"", "notfound", os.DevNull} {
		if err := config.SetConfigPath(none); err != nil {
			t.Fatal(err)
		}
		if dir := filepath.Dir(pinFile(at)); dir != filepath.Join(config.GetCacheDir(), "blockdev", "pins") {
			t.Errorf("%q: in %s", none, dir)
		}
	}
}

// A device that is copied onto itself, by another name, is refused and not remembered.
func TestPin_Itself(t *testing.T) {
	data := edges.Contents()[1].Make(1<<20, 1)
	d, _, _ := loop(t, data)
	dir, lead := named(t)
	lead(d)
	if err := os.Symlink(d.Path, filepath.Join(dir, "other")); err != nil {
		t.Fatal(err)
	}
	f := newFs(t, ":blockdev,pin_ids:localhost"+dir)
	if _, err := f.Features().Copy(t.Context(), find(t, f, "other"), "disk"); err == nil || !strings.Contains(err.Error(), "is the same device") {
		t.Errorf("%v", err)
	}
	at, err := f.(*Fs).place("disk")
	if err != nil {
		t.Fatal(err)
	}
	if known, err := loadPin(at); known != nil || err != nil {
		t.Errorf("remembered %v, %v", known, err)
	}
	holds(t, d, data)
}

// Where there are no links, one process makes the file all the same.
func TestPublishPlain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pin.json")
	if err := publishPlain(file, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := publishPlain(file, []byte("second")); !errors.Is(err, os.ErrExist) {
		t.Errorf("%v", err)
	}
	same(t, file, []byte("first"))
}

// A pin that cannot be read stops the copy, and nothing else: it would mean nothing otherwise.
func TestPin_Damaged(t *testing.T) {
	old := edges.Contents()[1].Make(1<<20, 1)
	d, _, _ := loop(t, old)
	dir, lead := named(t)
	lead(d)
	remote := ":blockdev,pin_ids:localhost" + dir
	at, err := newFs(t, remote).(*Fs).place("disk")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := savePin(at, []string{"serial=1"}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", `{"ids":[]}`, `{"ids":[""]}`} {
		write(t, pinFile(at), []byte(text))
		ctx, s := stats(t)
		o := find(t, newFs(t, remote), "disk")
		err := o.Update(ctx, bytes.NewReader(make([]byte, 1<<20)), info("x", 1<<20))
		if !fserrors.IsNoRetryError(err) || !strings.Contains(err.Error(), pinFile(at)) || !strings.Contains(err.Error(), "unpin") {
			t.Errorf("%q: %v", text, err)
		}
		if !s.HadFatalError() {
			t.Errorf("%q: the command would be repeated", text)
		}
		holds(t, d, old)
		l := listen(t)
		out, err := backend(t, remote, "info")
		if facts, _ := out.(map[string]any); err != nil || facts["pinned"] != nil || facts["ids"] == nil {
			t.Errorf("%q: info: %v, %v", text, out, err)
		}
		if _, err := backend(t, remote, "unpin"); err != nil {
			t.Errorf("%q: unpin: %v", text, err)
		}
		if said := l.text(); strings.Count(said, pinFile(at)) != 2 || !strings.Contains(said, "forgotten, though it could not be read") {
			t.Errorf("%q: said %s", text, said)
		}
		if known, err := loadPin(at); known != nil || err != nil {
			t.Errorf("%q: %v, %v after unpin", text, known, err)
		}
	}
}

// Of several processes that remember a device for the first time, one wins and all get what it remembered.
func TestSavePin_Concurrent(t *testing.T) {
	at := place{host.Get(host.Config{Host: "concurrent", Port: "2222"}), "/dev/x"}
	got := make([]string, 8)
	var group sync.WaitGroup
	for i := range got {
		group.Go(func() {
			known, err := savePin(at, []string{strings.Repeat("x", i+1)})
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = known.IDs[0]
		})
	}
	group.Wait()
	for _, id := range got {
		if id == "" || id != got[0] {
			t.Errorf("different pins: %q", got)
		}
	}
	other := place{host.Get(host.Config{Host: "concurrent", Port: "2223"}), "/dev/x"}
	if known, err := loadPin(other); known != nil || err != nil {
		t.Errorf("another port: %v, %v", known, err)
	}
	entries, err := os.ReadDir(filepath.Dir(pinFile(at)))
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			t.Errorf("%s was left", e.Name())
		}
	}
	if err != nil {
		t.Error(err)
	}
}
