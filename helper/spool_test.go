//go:build unix

package helper

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// copyAtomic copies source to path by a spool in dir, as transfer number n.
func (c *client) copyAtomic(path, dir string, source []byte, n byte) error {
	c.t.Helper()
	req := openWrite(path, int64(len(source)))
	req.Apply, req.Spool, req.Transfer, req.Verify = wire.ApplyAtomic, dir, wire.Claim{n}, wire.VerifyFull
	err := c.try(req)
	if err == nil {
		err = c.sends(source)
	}
	if err == nil {
		err = c.try(&wire.Close{Commit: true})
	}
	return err
}

func recoverOf(path, dir string) *wire.Recover {
	m := &wire.Recover{Dir: dir}
	m.Path = path
	return m
}

// recovered is the content that a recovery leaves, as it says.
func (c *client) recovered(path, dir string) string {
	c.t.Helper()
	if err := c.w.Write(recoverOf(path, dir)); err != nil {
		c.t.Fatal(err)
	}
	all, err := c.end()
	if errors.Is(err, wire.CodeNotFound) {
		return "none"
	}
	if err != nil {
		c.t.Fatal(err)
	}
	var p wire.Properties
	if err := all[len(all)-1].Decode(&p); err != nil {
		c.t.Fatal(err)
	}
	return p.Properties[0].Value
}

// Every content becomes every other by a spool, which is gone then.
func TestServe_Spool(t *testing.T) {
	for i, size := range edges.Sizes() {
		source := edges.Contents()[i%len(edges.Contents())].Make(size, 1)
		for _, target := range edges.Targets(source) {
			t.Run(strconv.Itoa(size)+"/"+target.Name, func(t *testing.T) {
				path, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
				if target.Data != nil {
					path = file(t, "image", target.Data)
				}
				c := connect(t, Policy{})
				if err := c.copyAtomic(path, dir, source, 1); err != nil {
					t.Fatal(err)
				}
				holds(t, "after the copy", path, source)
				if got := c.recovered(path, dir); got != "none" {
					t.Errorf("left: %s", got)
				}
				c.hangUp()
			})
		}
	}
}

// Wherever a copy dies, the target is as it was until all is spooled; then it is completed, and that is told.
func TestUndo_CrashOfAtomic(t *testing.T) {
	const size = 10<<20 + 700
	source, other := mixed(size, 2), mixed(size+5, 3)
	for name, old := range map[string][]byte{"equal": mixed(size, 1), "smaller": mixed(size-3<<20, 1), "larger": mixed(size+3<<20, 1)} {
		told := map[string]int{}
		for step := 1; ; step++ {
			path, dir := file(t, "image", old), t.TempDir()
			c, died := crashing(t, step)
			err := c.copyAtomic(path, dir, source, 1)
			where := died()
			if where == "" {
				if err != nil || told["old"] == 0 || told["new"] == 0 || told["none"] == 0 {
					t.Fatalf("%s: %d steps, %v: %v", name, step, told, err)
				}
				t.Logf("%s: %d steps: %v", name, step-1, told)
				break
			}
			where = name + ", " + where
			at, _ := os.ReadFile(path)
			again := connect(t, Policy{})
			if step%3 == 0 { // another copy takes its place
				if err := again.copyAtomic(path, dir, other, 2); err != nil {
					t.Errorf("%s: another: %v", where, err)
				}
				holds(t, where+", another", path, other)
				again.hangUp()
				continue
			}
			state := again.recovered(path, dir)
			told[state]++
			again.hangUp()
			switch {
			case state == "old" && !bytes.Equal(at, old):
				t.Errorf("%s: the target was changed before all was spooled", where)
			case state == "old", state == "none" && bytes.Equal(at, old):
				holds(t, where, path, old)
			default:
				holds(t, where, path, source)
			}
			if left := spools(t, dir); len(left) > 0 {
				t.Errorf("%s: %v is left", where, left)
			}
		}
	}
}

// spools are the spools in dir that have anything in them: one that died when it began is empty.
func spools(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(dir + "/*.spool")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(path string) bool {
		fi, err := os.Stat(path)
		return err == nil && fi.Size() == 0
	})
}

// A recovery that dies is completed by the next.
func TestUndo_CrashOfRecovery(t *testing.T) {
	const size = 10<<20 + 700
	source, old := mixed(size, 2), mixed(size-3<<20, 1)
	base, baseDir := file(t, "image", old), t.TempDir()
	// The first copy dies when the first bytes are applied.
	for first := 1; ; first++ {
		if err := os.WriteFile(base, old, 0o600); err != nil {
			t.Fatal(err)
		}
		c, died := crashing(t, first)
		_ = c.copyAtomic(base, baseDir, source, 1)
		where := died()
		if where == "" {
			t.Fatal("nothing is applied")
		}
		if strings.HasSuffix(where, ": applied") {
			break
		}
		again := connect(t, Policy{})
		again.recovered(base, baseDir)
		again.hangUp()
	}
	image, _ := os.ReadFile(base)
	left := spools(t, baseDir)
	if len(left) != 1 {
		t.Fatalf("spools %v", left)
	}
	spool, _ := os.ReadFile(left[0])
	for step := 1; ; step++ {
		for path, data := range map[string][]byte{base: image, left[0]: spool} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, died := crashing(t, step)
		err := c.try(recoverOf(base, baseDir))
		where := died()
		if where == "" {
			if err != nil || step < 5 {
				t.Fatalf("%d steps, %v", step, err)
			}
			break
		}
		again := connect(t, Policy{})
		if got := again.recovered(base, baseDir); got != "new" && !strings.Contains(where, "removed") {
			t.Errorf("%s: %s", where, got)
		}
		again.hangUp()
		holds(t, where, base, source)
	}
}

// A spool goes on after a lost connection, and is removed by a copy that fails. What it lacks is not applied.
func TestServe_SpoolResumed(t *testing.T) {
	const size = 4 << 20
	source, old := mixed(size, 2), mixed(size, 1)
	path, dir := file(t, "image", old), t.TempDir()
	open := openWrite(path, size)
	open.Apply, open.Spool, open.Transfer = wire.ApplyAtomic, dir, wire.Claim{7}
	c := connect(t, Policy{})
	c.call(open, new(wire.Opened))
	if err := c.sends(source); err != nil {
		t.Fatal(err)
	}
	c.hangUp()
	holds(t, "spooled", path, old)
	c = connect(t, Policy{})
	c.call(open, new(wire.Opened)) // the same transfer: all is there
	c.call(&wire.Close{Commit: true}, nil)
	holds(t, "committed", path, source)

	open.Transfer = wire.Claim{8}
	c.call(open, new(wire.Opened))
	c.fails(wire.CodeRefused, &wire.Close{Commit: true}) // nothing is there
	holds(t, "nothing spooled", path, source)
	c.hangUp()
	c = connect(t, Policy{})
	c.call(open, new(wire.Opened))
	if err := c.sends(old); err != nil {
		t.Fatal(err)
	}
	c.call(&wire.Close{}, nil)
	holds(t, "given up", path, source)
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	// Of a range that is sent twice, what came first is void.
	c.call(open, new(wire.Opened))
	for _, data := range [][]byte{mixed(size, 5), old} {
		if err := c.sends(data); err != nil {
			t.Fatal(err)
		}
	}
	c.call(&wire.Close{Commit: true}, nil)
	holds(t, "sent twice", path, old)
	c.hangUp()
}

// A spool without space ends the copy, and the target is as it was.
func TestServe_SpoolNoSpace(t *testing.T) {
	const size = 24 << 20
	old, source := make([]byte, size), make([]byte, size)
	seed := uint32(1)
	for i := range source {
		seed = seed*1664525 + 1013904223
		source[i] = byte(seed >> 24)
	}
	path, dir := file(t, "image", old), smallDisk(t, 1<<20)
	c := connect(t, Policy{})
	if err := c.copyAtomic(path, dir, source, 1); !errors.Is(err, wire.CodeNoSpace) {
		t.Errorf("%v", err)
	}
	c.try(&wire.Close{})
	holds(t, "no space", path, old)
	c.hangUp()
}
