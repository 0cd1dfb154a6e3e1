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
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// copyAtomic copies source to path by a spool in dir, as transfer number n.
func (c *client) copyAtomic(path, dir string, source []byte, n byte) error {
	c.t.Helper()
	req := openAtomic(path, dir, len(source), n)
	req.Verify = wire.VerifyFull
	err := c.try(req)
	if err == nil {
		err = c.sends(source)
	}
	if err == nil {
		err = c.try(&wire.Close{Commit: true})
	}
	return err
}

func openAtomic(path, dir string, size int, n byte) *wire.Open {
	req := openWrite(path, int64(size))
	req.Apply, req.Spool, req.Transfer = wire.ApplyAtomic, dir, wire.Claim{n}
	return req
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
			if step%3 == 0 && committed(t, dir) { // another copy is refused, and names what to do
				err := again.copyAtomic(path, dir, other, 2)
				if !errors.Is(err, wire.CodeRefused) || !strings.Contains(err.Error(), "backend recover") || !strings.Contains(err.Error(), spools(t, dir)[0]) {
					t.Errorf("%s: another: %v", where, err)
				}
				holds(t, where+", another", path, at)
			} else if step%3 == 0 { // another copy takes its place
				if err := again.copyAtomic(path, dir, other, 2); err != nil {
					t.Errorf("%s: another: %v", where, err)
				}
				holds(t, where+", another", path, other)
				again.hangUp()
				continue
			} else if step%3 == 1 && committed(t, dir) { // the same transfer has nothing left to send
				again.call(openAtomic(path, dir, size, 1), new(wire.Opened))
				again.call(&wire.Close{Commit: true}, nil)
				holds(t, where+", the same", path, source)
				at = source
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

// committed tells whether a spool in dir is to be applied.
func committed(t *testing.T, dir string) bool {
	t.Helper()
	for _, path := range spools(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		const commit = 56 // bytes of the last record
		if len(b) > commit && string(b[len(b)-commit:][:5]) == "BDL1\x0a" {
			return true
		}
	}
	return false
}

// halfway leaves an image and a committed spool of which only the first bytes were applied.
func halfway(t *testing.T, old, source []byte) (path, dir string) {
	t.Helper()
	path, dir = file(t, "image", old), t.TempDir()
	for first := 1; ; first++ {
		if err := os.WriteFile(path, old, 0o600); err != nil {
			t.Fatal(err)
		}
		c, died := crashing(t, first)
		_ = c.copyAtomic(path, dir, source, 1)
		where := died()
		if where == "" {
			t.Fatal("nothing is applied")
		}
		if strings.HasSuffix(where, ": applied") {
			return path, dir
		}
		again := connect(t, Policy{})
		again.recovered(path, dir)
		again.hangUp()
	}
}

// A spool is applied to nothing that somebody else has written to, or that is another object, and the refusal names it.
func TestServe_SpoolOfOther(t *testing.T) {
	const size = 10<<20 + 700
	source, old := mixed(size, 2), mixed(size-3<<20, 1)
	path, dir := halfway(t, old, source)
	half, _ := os.ReadFile(path)
	c := connect(t, Policy{})
	for name, change := range map[string]func(b []byte) []byte{
		"one byte":      func(b []byte) []byte { b[size-500] ^= 1; return b },
		"another size":  func(b []byte) []byte { return append(b, 0) },
		"another image": func(b []byte) []byte { return mixed(len(b), 9) },
	} {
		now := change(bytes.Clone(half))
		if err := os.WriteFile(path, now, 0o600); err != nil {
			t.Fatal(err)
		}
		err := c.try(recoverOf(path, dir))
		if !errors.Is(err, wire.CodeRefused) || !strings.Contains(err.Error(), spools(t, dir)[0]) || !strings.Contains(err.Error(), "nothing was written now") {
			t.Errorf("%s: recover: %v", name, err)
		}
		holds(t, name+", recover", path, now)
		c.call(openAtomic(path, dir, size, 1), new(wire.Opened)) // the same transfer
		c.fails(wire.CodeRefused, &wire.Close{Commit: true})
		holds(t, name+", the same transfer", path, now)
	}
	if err := os.WriteFile(path, half, 0o600); err != nil {
		t.Fatal(err)
	}
	// What the caller asks of the target comes first, and nothing may be put into it.
	open := openAtomic(path, dir, size, 1)
	open.Expect = "serial=other"
	c.fails(wire.CodeIdentity, open)
	holds(t, "not what was expected", path, half)
	c.call(openAtomic(path, dir, size, 1), new(wire.Opened))
	if err := c.sends(old); !errors.Is(err, wire.CodeRefused) {
		t.Errorf("put into a committed spool: %v", err)
	}
	c.call(&wire.Close{}, nil)
	if got := c.recovered(path, dir); got != "new" {
		t.Errorf("recover: %s", got)
	}
	holds(t, "recovered", path, source)
	c.hangUp()
}

// What cannot be read is not kept by a spool: what the target becomes would not be known.
func TestServe_SpoolGaps(t *testing.T) {
	const size = 4 << 20
	old := mixed(size, 1)
	path, dir := file(t, "image", old), t.TempDir()
	c := connect(t, Policy{})
	c.call(openAtomic(path, dir, size, 7), new(wire.Opened))
	c.send(wire.NewReceive(rangeOf(size), delta.Window))
	c.send(&wire.Gaps{Keep: true, List: []wire.Gap{{Offset: 0, Length: 4096}}})
	if _, err := c.end(); !errors.Is(err, wire.CodeUnsupported) {
		t.Errorf("%v", err)
	}
	c.call(&wire.Close{}, nil)
	holds(t, "gaps", path, old)
	c.hangUp()
}

// Force is for the spool, too.
func TestServe_SpoolForced(t *testing.T) {
	const size = 1 << 20
	source := mixed(size, 2)
	path, dir := file(t, "image", mixed(size, 1)), t.TempDir()
	holder, c := connect(t, Policy{}), connect(t, Policy{})
	holder.call(openWrite(path, size), new(wire.Opened))
	open := openAtomic(path, dir, size, 1)
	open.Claim = wire.Claim{200, 1}
	c.fails(wire.CodeBusy, open)
	open.Force = true
	if err := c.try(open); err != nil {
		t.Fatal(err)
	}
	if err := c.sends(source); err != nil {
		t.Fatal(err)
	}
	c.call(&wire.Close{Commit: true}, nil)
	holds(t, "forced", path, source)
	c.hangUp()
	holder.hangUp()
}

// A target that changes while it is copied to stays as it is then.
func TestServe_SpoolOfChanged(t *testing.T) {
	const size = 4 << 20
	source, old := mixed(size, 2), mixed(size, 1)
	path, dir := file(t, "image", old), t.TempDir()
	c := connect(t, Policy{})
	c.call(openAtomic(path, dir, size, 7), new(wire.Opened))
	if err := c.sends(source); err != nil {
		t.Fatal(err)
	}
	old[size-1] ^= 1
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	c.fails(wire.CodeRefused, &wire.Close{Commit: true})
	holds(t, "changed", path, old)
	if left := spools(t, dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	c.hangUp()
}

// A recovery that dies is completed by the next.
func TestUndo_CrashOfRecovery(t *testing.T) {
	const size = 10<<20 + 700
	source, old := mixed(size, 2), mixed(size-3<<20, 1)
	base, baseDir := halfway(t, old, source)
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
	c.fails(wire.CodeSizeMismatch, &wire.Close{Commit: true}) // nothing is there
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
	if err := c.copyAtomic(path, dir, source, 1); !errors.Is(err, wire.CodeNoSpace) || strings.Contains(err.Error(), "undo") {
		t.Errorf("%v", err)
	}
	c.try(&wire.Close{})
	holds(t, "no space", path, old)
	c.hangUp()
}
