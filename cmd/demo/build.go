package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/bundle/platform"
)

// program is the file name of the program that is shown.
func program(dir string) string {
	name := "rclone-blockdev"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(dir, name)
}

// build makes rclone-blockdev and the helper of this platform in bin/ of the
// module and returns that directory.
func (d *demo) build(ctx context.Context) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin")
	if _, err := os.Stat(program(bin)); err != nil {
		d.say("Building bin/rclone-blockdev: minutes the first time, it holds all of rclone.")
	} else {
		d.say("Building bin/rclone-blockdev.")
	}
	start := time.Now()
	here := platform.Platform{OS: runtime.GOOS, Arch: runtime.GOARCH}
	if _, known := platform.Lookup(here.FileName()); known && !bundled(root, here) {
		if err := goTool(ctx, root, "run", "./helper/bundle/pack", "-platforms", here.FileName()); err != nil {
			return "", err
		}
	}
	err = goTool(ctx, root, "build", "-o", bin+string(filepath.Separator), "./cmd/rclone-blockdev", "./cmd/blockdev-helper")
	if err != nil {
		return "", err
	}
	d.say("Built in %s.", duration(time.Since(start)))
	return bin, nil
}

// moduleRoot is the source tree that the demo was started in.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("the go command does not run: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if file == "" || file == os.DevNull {
		return "", errors.New("not in the source tree: start it there, or name the built programs with -bin")
	}
	return filepath.Dir(file), nil
}

// bundled tells whether the tree has a packed helper for p.
func bundled(root string, p platform.Platform) bool {
	manifest, err := os.Open(filepath.Join(root, "helper", "bundle", "data", "manifest"))
	if err != nil {
		return false
	}
	defer manifest.Close()
	for lines := bufio.NewScanner(manifest); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), p.FileName()+" ") {
			return true
		}
	}
	return false
}

// goTool runs the go command. It says much when it downloads or fails; the last
// line is what counts.
func goTool(ctx context.Context, root string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	said := strings.Split(strings.TrimSpace(string(out)), "\n")
	return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, said[len(said)-1])
}
