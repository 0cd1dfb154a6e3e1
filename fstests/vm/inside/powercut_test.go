//go:build vm

package inside

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const (
	cutSize  = 3 * mib   // of a target
	cutPart  = 512 << 10 // of it is one range
	cutFiles = 24 * mib  // file system of the logs
)

// cutting is a copy over old content whose disk loses its power.
type cutting struct {
	*disk
	target   string // device or image
	src      string
	old, new []byte
}

// sameUUID makes all file systems alike, so that what was recorded of one can be applied to another: it is part of the
// sums of all metadata.
const sameUUID = "7d5c1b1e-58a1-4c0e-9f9b-3a1f5f0f7a52"

// newCutting has the target and the file system of its logs on one disk.
func newCutting(t *testing.T) *cutting {
	t.Helper()
	c := &cutting{target: "/dev/mapper/target"}
	c.disk = newDisk(t, "ext4", []string{"mkfs.ext4", "-q", "-F", "-U", sameUUID, "-E", "lazy_itable_init=0,lazy_journal_init=0,hash_seed=" + sameUUID}, part{"target", 0, cutSize}, part{"files", cutSize, cutFiles})
	c.contents(t)
	c.apply(t, []logged{{off: 0, n: cutSize, data: c.old}})
	return c
}

func (c *cutting) contents(t *testing.T) {
	t.Helper()
	content := func(seed uint64) (path string, data []byte) {
		path = harness.Image{Size: cutSize, Zero: 0.3, Text: 0.4, Area: 20 << 10, Seed: seed}.File(t)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return path, data
	}
	_, c.old = content(1)
	c.src, c.new = content(2)
}

// with calls do with a session of its own.
func with(t *testing.T, do func(s *host.Session) error) error {
	t.Helper()
	s, err := host.Get(host.Config{Host: host.Localhost}).Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	return do(s)
}

// transfer is a number that names a transfer.
var transfer byte

// copyTo copies the source to the target, range after range.
func (c *cutting) copyTo(t *testing.T, set func(*wire.Open)) error {
	t.Helper()
	return c.copySteps(t, set, func(int64) {})
}

// copySteps is copyTo, and calls before with the offset of each range, and with the size before all is completed.
func (c *cutting) copySteps(t *testing.T, set func(*wire.Open), before func(off int64)) error {
	t.Helper()
	from, err := opened(t, c.src, -1, false)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close(context.Background(), false, 0)
	transfer++
	req := &wire.Open{Write: true, Lead: true, Size: cutSize, Claim: wire.Claim{transfer}, Transfer: wire.Claim{transfer}}
	req.Path = c.target
	set(req)
	return with(t, func(to *host.Session) error {
		if _, err := to.Open(t.Context(), req); err != nil {
			return err
		}
		defer to.Close(context.Background(), false, 0)
		for off := int64(0); off < cutSize; off += cutPart {
			before(off)
			r := block.Range{Offset: off, Length: cutPart, BlockSize: block.DefaultSize}
			if _, err := host.Join(t.Context(), from, to, r, func(int64) {}); err != nil {
				return err
			}
		}
		before(cutSize)
		return to.Close(t.Context(), true, 1)
	})
}

func (c *cutting) undoing(o *wire.Open)    { o.Undo = c.point }
func (c *cutting) atomic(o *wire.Open)     { o.Apply, o.Spool = wire.ApplyAtomic, c.point }
func (c *cutting) reflinking(o *wire.Open) { o.Apply = wire.ApplyReflink }

// told asks for an undo or a recovery, and gives one property of what was done.
func (c *cutting) told(t *testing.T, req wire.Message, key string) (value string, err error) {
	t.Helper()
	err = with(t, func(s *host.Session) error {
		all, err := s.Undo(t.Context(), req, func(int64) {})
		for _, p := range all {
			if p.Key == key {
				value = p.Value
			}
		}
		return err
	})
	if errors.Is(err, wire.CodeNotFound) {
		return "none", nil
	}
	return value, err
}

// undo tells the state of the copy that was undone.
func (c *cutting) undo(t *testing.T) (string, error) {
	t.Helper()
	req := &wire.Undo{Dir: c.point}
	req.Path = c.target
	return c.told(t, req, "copy")
}

// recover tells the content that it has left.
func (c *cutting) recover(t *testing.T) (string, error) {
	t.Helper()
	req := &wire.Recover{Dir: c.point}
	req.Path = c.target
	return c.told(t, req, "content")
}

// state is what the target holds.
func (c *cutting) state(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(c.target)
	switch {
	case err != nil:
		t.Fatal(err)
	case bytes.Equal(data, c.old):
		return "old"
	case bytes.Equal(data, c.new):
		return "new"
	}
	return "mixed"
}

// cut is a moment at which the power goes.
type cut struct {
	at   int  // so many entries were written
	lose bool // those that nobody knows to be durable may be lost, by chance
}

func (c cut) String() string { return fmt.Sprintf("after write %d, lose %v", c.at, c.lose) }

// cuts are the moments at which somebody learnt that something is durable, and before, and others by chance: as many
// as there is time for.
func cuts(log []logged) (all []cut) {
	for i := range log {
		at := cut{i + 1, false}
		if log[i].durable() || rand.IntN(4) == 0 {
			all = append(all, at)
		}
		all = append(all, cut{i + 1, true})
	}
	const few = 12
	if require.Long() || len(all) <= few {
		return all
	}
	some := make([]cut, few) // from the beginning to the end, where what is said is final
	for i := range some {
		some[i] = all[i*(len(all)-1)/(few-1)]
	}
	return some
}

// each calls check with the disk after each cut.
func (c *cutting) each(t *testing.T, log []logged, check func(at cut, n int)) {
	t.Helper()
	done := 0
	for n, at := range cuts(log) {
		known := done // all before was known to be durable
		for i := done; i < at.at; i++ {
			if log[i].flags&flagFlush != 0 {
				known = i
			}
		}
		c.apply(t, log[done:known])
		done = known
		c.branch(t, func(dev string) {
			f, err := os.OpenFile(dev, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := done; i < at.at; i++ {
				if !at.lose || log[i].flags&flagFUA != 0 || rand.IntN(2) == 0 {
					log[i].write(t, f)
				}
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				t.Fatal(err)
			}
			c.use(t, dev, func() { check(at, n) })
		})
	}
}

// undone checks what an undo says and does after a power cut.
func (c *cutting) undone(t *testing.T, seen map[string]int) func(at cut, n int) {
	return func(at cut, n int) {
		t.Helper()
		found := c.state(t)
		if n%3 == 2 { // the same copy again, unless an undo is to be completed
			err := c.copyTo(t, c.undoing)
			if now := c.state(t); err == nil && now != "new" || err != nil && !errors.Is(err, wire.CodeRefused) {
				t.Errorf("%v: %s, copied again: %s, %v", at, found, now, err)
			}
		}
		before := c.state(t)
		told, err := c.undo(t)
		now := c.state(t)
		seen[found+", "+told]++
		switch {
		case err != nil, now != "old":
			t.Errorf("%v: %s, undo says %s and leaves %s, %v", at, before, told, now, err)
		case told == "none" && before != "old", told == "complete" && before != "new":
			t.Errorf("%v: %s, undo says %s", at, before, told)
		}
	}
}

// recovered checks what a recovery says and does after a power cut.
func (c *cutting) recovered(t *testing.T, seen map[string]int) func(at cut, n int) {
	return func(at cut, n int) {
		t.Helper()
		found := c.state(t)
		if n%3 == 2 && found == "old" { // another copy, unless there is something to be recovered
			err := c.copyTo(t, c.atomic)
			if now := c.state(t); err == nil && now != "new" || err != nil && (now != found || !errors.Is(err, wire.CodeRefused)) {
				t.Errorf("%v: %s, copied again: %s, %v", at, found, now, err)
			}
		}
		before := c.state(t)
		told, err := c.recover(t)
		now := c.state(t)
		seen[found+", "+told]++
		switch {
		case err != nil:
			t.Errorf("%v: %s, recovered: %v", at, before, err)
		case told == "none" && (now != before || now == "mixed"), told != "none" && now != told, told == "old" && before != "old":
			t.Errorf("%v: %s, recover says %s and leaves %s", at, before, told, now)
		}
		left, err := filepath.Glob(c.point + "/*.spool")
		if len(left) > 1 || err != nil { // one that was empty is left alone
			t.Errorf("%v: left %v, %v", at, left, err)
		}
	}
}

// wanted fails when something was never seen: then the cuts were not where they should be.
func wanted(t *testing.T, log []logged, seen map[string]int, keys ...string) {
	t.Helper()
	flushes := 0
	for i := range log {
		if log[i].durable() {
			flushes++
		}
	}
	t.Logf("%d writes, %d of them flushes: %v", len(log), flushes, seen)
	for _, key := range keys {
		if seen[key] == 0 {
			t.Errorf("never seen: %s", key)
		}
	}
}

// The power of a disk with target and log goes while a copy is made, whose overwritten blocks are kept, and while it is
// taken back.
func TestPowerCut_Undo(t *testing.T) {
	c := newCutting(t)
	copied := c.record(t, func() {
		if err := c.copyTo(t, c.undoing); err != nil || c.state(t) != "new" {
			t.Fatalf("%s, %v", c.state(t), err)
		}
	})
	seen := map[string]int{}
	c.each(t, copied, c.undone(t, seen))
	wanted(t, copied, seen, "old, none", "mixed, interrupted", "new, complete")

	undone := c.record(t, func() {
		if told, err := c.undo(t); err != nil || told != "complete" || c.state(t) != "old" {
			t.Fatalf("%s, %s, %v", told, c.state(t), err)
		}
	})
	seen = map[string]int{}
	c.each(t, undone, c.undone(t, seen))
	wanted(t, undone, seen, "mixed, undone in part")
}

// The power goes while what changes is spooled and applied, and while that is recovered.
func TestPowerCut_Atomic(t *testing.T) {
	c := newCutting(t)
	copied := c.record(t, func() {
		if err := c.copyTo(t, c.atomic); err != nil || c.state(t) != "new" {
			t.Fatalf("%s, %v", c.state(t), err)
		}
	})
	seen, half := map[string]int{}, 0
	check := c.recovered(t, seen)
	again := newCutting(t)
	c.each(t, copied, func(at cut, n int) {
		if half == 0 && c.state(t) == "mixed" && !at.lose {
			half = at.at
		}
		check(at, n)
	})
	wanted(t, copied, seen, "old, old", "mixed, new", "new, none")
	if half == 0 {
		return // the target was never found in the middle
	}
	again.apply(t, copied[:half])
	recovered := again.record(t, func() {
		if told, err := again.recover(t); err != nil || told != "new" || again.state(t) != "new" {
			t.Fatalf("%s, %s, %v", told, again.state(t), err)
		}
	})
	seen = map[string]int{}
	again.each(t, recovered, again.recovered(t, seen))
	wanted(t, recovered, seen, "mixed, new")
}

// The power goes while a changed clone of an image takes its place: there is the old one or the new one.
func TestPowerCut_Reflink(t *testing.T) {
	c := new(cutting)
	c.disk = newDisk(t, "xfs", []string{"mkfs.xfs", "-q", "-f"}, part{"files", 0, 320 * mib})
	c.contents(t)
	c.target = filepath.Join(c.point, "image")
	c.use(t, c.dev, func() {
		if err := os.WriteFile(c.target, c.old, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	run(t, "blockdev", "--flushbufs", c.dev)
	copied := c.record(t, func() {
		if err := c.copyTo(t, c.reflinking); err != nil || c.state(t) != "new" {
			t.Fatalf("%s, %v", c.state(t), err)
		}
	})
	seen := map[string]int{}
	c.each(t, copied, func(at cut, n int) {
		found := c.state(t)
		seen[found]++
		if found == "mixed" {
			t.Errorf("%v: the image is neither old nor new", at)
		}
		if n%3 == 2 {
			if err := c.copyTo(t, c.reflinking); err != nil || c.state(t) != "new" {
				t.Errorf("%v: copied again: %s, %v", at, c.state(t), err)
			}
		}
	})
	wanted(t, copied, seen, "old", "new")
}
