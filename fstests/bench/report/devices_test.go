package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// onDevice measures from one device or image to another, which it says twice.
func onDevice(t *testing.T, source, target string) (code int, said, dir string) {
	t.Helper()
	dir = t.TempDir()
	code, said = start("-source", source, "-target", target, "-overwrite", target,
		"-scenarios", "changed-push", "-tools", "blockdev,rsync", "-rates", "1", "-count", "1", "-o", dir)
	return code, said, dir
}

func TestReport_devices(t *testing.T) {
	require.Need(t, require.Root, require.Loop, require.Sshd, require.SSH, require.Rsync)
	const size = 16 << 20
	source := harness.Loop(t, size).Path
	target := harness.Loop(t, size).Path
	harness.Image{Size: size, Zero: 0.2, Text: 0.2, Seed: 4}.Write(t, source)
	before := harness.SHA256(t, source)
	code, said, dir := onDevice(t, source, target)
	if code != 0 {
		t.Fatal(said)
	}
	harness.Same(t, source, target)
	if harness.SHA256(t, source) != before {
		t.Error("the source was written to")
	}
	rows := resultsIn(t, dir)
	if len(rows) != 2 || rows[0].Image != size {
		t.Errorf("%d results, want 2 of %d bytes: %v", len(rows), size, rows)
	}
	for _, r := range rows {
		if _, ok := r.Metrics[allocated]; ok {
			t.Errorf("%v: a device cannot tell what it occupies", r.point)
		}
		if sent := r.Metrics[wire].Median; sent < 0.1 || sent > 4 {
			t.Errorf("%v: %v MB were sent for 1 %% of 16 MiB", r.point, sent)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "report.md"))
	if err != nil || !strings.Contains(string(page), "from "+source+" to "+target) {
		t.Errorf("the page does not name the devices, %v", err)
	}
}

// Nothing is written to a target that is in use, has another size, is the source, or was not named twice.
func TestReport_devicesRefused(t *testing.T) {
	require.Need(t, require.Root, require.Loop, require.Mount, require.Mkfs, require.Sshd, require.SSH, require.Rsync)
	const size = 16 << 20
	source, target := harness.Loop(t, size).Path, harness.Loop(t, size).Path
	harness.Image{Size: size, Seed: 4}.Write(t, source)
	command := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	mkfs, err := require.Program("mkfs.ext4")
	if err != nil {
		t.Fatal(err)
	}
	command(mkfs, "-q", target)
	before := harness.SHA256(t, target)
	short := filepath.Join(t.TempDir(), "short")
	harness.Image{Size: size / 2, Seed: 5}.Write(t, short)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(source, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, source, target, want string }{
		{"another size", source, short, "must be equal"},
		{"the source itself", source, link, "are the same"},
		{"not there", source, "/dev/not-there", "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if code, said, _ := onDevice(t, c.source, c.target); code != 1 || !strings.Contains(said, c.want) {
				t.Errorf("exit %d, said %q, want %q", code, said, c.want)
			}
		})
	}
	t.Run("named once", func(t *testing.T) {
		t.Setenv("BLOCKDEV_BENCH_SOURCE", source)
		t.Setenv("BLOCKDEV_BENCH_TARGET", target)
		out, err := exec.Command("go", "test", "-run", "^$", "-bench", "^BenchmarkChanged$/push/rate=1$/tool=rsync$", "-benchtime", "1x", "..").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "set BLOCKDEV_BENCH_OVERWRITE="+target) {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("mounted", func(t *testing.T) {
		at := t.TempDir()
		command("mount", "-o", "ro", target, at)
		defer command("umount", at)
		if code, said, _ := onDevice(t, source, target); code != 1 || !strings.Contains(said, "mounted") {
			t.Errorf("exit %d, said %q", code, said)
		}
	})
	if harness.SHA256(t, target) != before {
		t.Error("the target was written to")
	}
}
