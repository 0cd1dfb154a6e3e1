package witness_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/witness"
)

// What cannot be watched is said, with the reason.
func TestBegin_Unable(t *testing.T) {
	t.Setenv("BLOCKDEV_WITNESS_DIR", t.TempDir())
	able := func(path, why string) {
		t.Helper()
		if _, _, err := witness.Begin(open(t, path), witness.Run{1}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", path, err)
		}
	}
	d := loop(t)
	iostats := "/sys/block/" + filepath.Base(d.path) + "/queue/iostats"
	if err := os.WriteFile(iostats, []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	able(d.path, "does not count what is written to it")
	if err := os.WriteFile(iostats, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	able(harness.Zram(t, size), "this kind of device")
	memory := filepath.Join("/dev/shm", fmt.Sprintf("blockdev-witness-%d", os.Getpid()))
	t.Cleanup(func() { os.Remove(memory) })
	if err := os.WriteFile(memory, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	able(memory, "its file system is none of")
}

// A record that is not ours, or was damaged, proves nothing.
func TestBegin_Record(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BLOCKDEV_WITNESS_DIR", dir)
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	spoil := func(what string, how func(file string, text []byte)) {
		t.Helper()
		run(t, path, nil)
		files, err := filepath.Glob(dir + "/*")
		if err != nil || len(files) != 1 {
			t.Fatalf("%v, %v", files, err)
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		how(files[0], text)
		if found, _ := run(t, path, nil); found.Since != (witness.Run{}) || found.Doubt == "" {
			t.Errorf("%s: %+v", what, found)
		}
	}
	put := func(file string, text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	spoil("gone", func(file string, _ []byte) { os.Remove(file) })
	spoil("empty", func(file string, _ []byte) { put(file, nil) })
	spoil("cut", func(file string, text []byte) { put(file, text[:len(text)-5]) })
	spoil("of another boot", func(file string, text []byte) {
		put(file, bytes.Replace(text, []byte(`"boot" "`), []byte(`"boot" "x`), 1))
	})
	spoil("without a proof", func(file string, text []byte) {
		put(file, bytes.Replace(text, []byte("witness 1\n"), []byte("witness 1: none\n"), 1))
	})
	spoil("of fewer facts", func(file string, text []byte) {
		lines := bytes.SplitAfter(text, []byte("\n"))
		put(file, append(bytes.Join(lines[:len(lines)-3], nil), "end\n"...))
	})
	spoil("others may write to it", func(file string, _ []byte) { os.Chmod(file, 0o666) })
	spoil("a link", func(file string, text []byte) {
		put(path+".planted", text)
		os.Remove(file)
		if err := os.Symlink(path+".planted", file); err != nil {
			t.Fatal(err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, _, err := witness.Begin(open(t, path), witness.Run{1}); err == nil {
		t.Error("others can write to the directory")
	}
}
