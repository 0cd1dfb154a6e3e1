package snapshot

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// stage is a host with a state directory of its own and an image file.
type stage struct {
	t       *testing.T
	dir     string // of everything
	image   string
	notices []string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	dir := t.TempDir()
	s := &stage{t: t, dir: dir, image: filepath.Join(dir, "disk.img")}
	t.Setenv("BLOCKDEV_STATE_DIR", filepath.Join(dir, "state"))
	s.write("disk.img", "content")
	return s
}

func (s *stage) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// script is a program.
func (s *stage) script(name, text string) string { return s.write(name, "#!/bin/sh\n"+text) }

func (s *stage) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(s.dir, name))
	return string(text)
}

func (s *stage) notice(text string) { s.notices = append(s.notices, text) }

// copies is a spec of the kind "command", whose programs copy the image and remove the copy.
func (s *stage) copies() *Spec {
	take := s.script("take", `cp "$BLOCKDEV_PATH" "$BLOCKDEV_PATH.snap" && echo taken "$BLOCKDEV_SNAPSHOT" && echo "$BLOCKDEV_PATH.snap"`)
	drop := s.script("drop", `rm -f "$BLOCKDEV_PATH.snap"; echo "$BLOCKDEV_DEVICE" >>`+s.dir+`/dropped`)
	hook := s.script("hook", `echo "$BLOCKDEV_HOOK $BLOCKDEV_PATH $BLOCKDEV_OUTCOME" >>`+s.dir+`/hooks; echo "ran $BLOCKDEV_HOOK"`)
	return &Spec{Owner: newOwner(), Path: s.image, Kind: Command, Take: []string{take}, Drop: []string{drop}, Before: []string{hook}, After: []string{hook},
		Grace: time.Minute, FreezeTime: 10 * time.Second}
}

func newOwner() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func (s *stage) prepare(spec *Spec) *Hold {
	s.t.Helper()
	h, err := Prepare(s.t.Context(), spec, false, s.notice)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(h.Release)
	return h
}

func (s *stage) fails(spec *Spec, kind error, words ...string) {
	s.t.Helper()
	h, err := Prepare(s.t.Context(), spec, false, s.notice)
	if err == nil {
		h.Release()
		s.t.Fatal("it was prepared")
	}
	if !errors.Is(err, kind) {
		s.t.Errorf("%v is not %q", err, kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			s.t.Errorf("%q does not say %q", err, word)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		s.t.Errorf("%q has several lines", err)
	}
	s.nothingLeft()
}

func (s *stage) nothingLeft() {
	s.t.Helper()
	if left, _ := os.ReadDir(filepath.Join(s.dir, "state")); len(left) > 0 {
		s.t.Errorf("left %v", left)
	}
	if exists(s.image + ".snap") {
		s.t.Error("the snapshot is left")
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// processes are the ids of those of this program in a role that have a word in their command line.
func processes(t *testing.T, role, word string) (ids []int) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range dirs {
		text, _ := os.ReadFile(path)
		args := strings.Split(string(text), "\x00")
		if len(args) > 3 && args[0] == processName && args[1] == role && (word == "" || strings.Contains(string(text), word)) {
			id, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			ids = append(ids, id)
		}
	}
	return ids
}

// killKeeper kills the keeper of an owner as the kernel does when memory is short.
func killKeeper(t *testing.T, owner string) {
	t.Helper()
	ids := processes(t, roleKeeper, owner)
	if len(ids) != 1 {
		t.Fatalf("%d keepers", len(ids))
	}
	if err := syscall.Kill(ids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Its command line is gone before its locks are, a process that was waited for last.
	eventually(t, "the keeper is gone", func() bool { return syscall.Kill(ids[0], 0) == syscall.ESRCH })
}

// A set is made, shared, and undone when the transfer is over, with its hooks around it.
func TestSet(t *testing.T) {
	s := newStage(t)
	spec := s.copies()
	h := s.prepare(spec)
	other, id := h.Device("/other")
	if got, _ := h.Device(s.image); got != s.image+".snap" || other != "" || id != "" {
		t.Errorf("device %q", got)
	}
	follower, err := Prepare(t.Context(), spec, true, s.notice)
	if err != nil || !follower.Made().Equal(h.Made()) || h.Made().IsZero() {
		t.Fatalf("%v, made %v and %v", err, follower.Made(), h.Made())
	}
	if all := List(t.Context()); len(all) != 1 || all[0].State != stateUsed || all[0].Path != s.image || all[0].Kind != Command || all[0].ID != spec.Owner[:8] {
		t.Errorf("listed %+v", all)
	}
	if err := Remove(t.Context(), spec.Owner[:8], s.notice); !errors.Is(err, device.ErrBusy) {
		t.Errorf("removed while in use: %v", err)
	}
	h.Release()
	follower.Release()
	if all := List(t.Context()); len(all) != 1 || all[0].State != stateWaiting {
		t.Errorf("listed %+v", all)
	}
	if err := Conclude(t.Context(), spec.Owner, Success, true, s.notice); err != nil {
		t.Error(err)
	}
	s.nothingLeft()
	if got := s.read("dropped"); got != s.image+".snap\n" {
		t.Errorf("dropped %q", got)
	}
	if got := s.read("hooks"); got != "before_read "+s.image+" \nafter_read "+s.image+" success\n" {
		t.Errorf("hooks: %q", got)
	}
	if got := strings.Join(s.notices, "|"); got != "before_read: ran before_read|after_read: ran after_read" {
		t.Errorf("log: %s", got)
	}
	if err := Conclude(t.Context(), spec.Owner, Success, true, s.notice); err != nil { // as after a lost answer
		t.Error(err)
	}
	if _, err := Prepare(t.Context(), spec, true, s.notice); !errors.Is(err, device.ErrNotFound) {
		t.Errorf("followed what is gone: %v", err)
	}
}

// When the client is gone for good, the set ends after the grace time, and not before.
func TestSet_Lost(t *testing.T) {
	s := newStage(t)
	spec := s.copies()
	spec.Grace = 0 // then it is leastGrace
	h := s.prepare(spec)
	start := time.Now()
	h.Release()
	eventually(t, "removed", func() bool { return !exists(s.image + ".snap") })
	if took := time.Since(start); took < leastGrace {
		t.Errorf("removed after %v", took)
	}
	eventually(t, "hook", func() bool { return strings.HasSuffix(s.read("hooks"), "after_read "+s.image+" lost\n") })
	eventually(t, "forgotten", func() bool { return len(owners()) == 0 })
}

// A client that comes back finds the same set.
func TestSet_Back(t *testing.T) {
	s := newStage(t)
	spec := s.copies()
	h := s.prepare(spec)
	made := h.Made()
	h.Release()
	time.Sleep(2 * pollTime)
	if again := s.prepare(spec); !again.Made().Equal(made) {
		t.Error("it is another one")
	}
	if err := Conclude(t.Context(), spec.Owner, Failed, true, s.notice); err != nil {
		t.Error(err)
	}
	s.nothingLeft()
}

// A killed keeper is replaced by the next session, ended by Conclude, or its set is removed by the next helper.
func TestSet_KeeperKilled(t *testing.T) {
	for name, then := range map[string]func(*stage, *Spec, *Hold){
		"replaced": func(s *stage, spec *Spec, h *Hold) {
			again := s.prepare(spec)
			if !again.Made().Equal(h.Made()) {
				s.t.Error("it is another one")
			}
			eventually(s.t, "kept", func() bool { return len(processes(s.t, roleKeeper, spec.Owner)) == 1 })
			again.Release()
			h.Release()
			if err := Conclude(s.t.Context(), spec.Owner, Success, true, s.notice); err != nil {
				s.t.Error(err)
			}
		},
		"concluded": func(s *stage, spec *Spec, h *Hold) {
			if err := Conclude(s.t.Context(), spec.Owner, Success, true, s.notice); err != nil {
				s.t.Error(err)
			}
		},
		"swept": func(s *stage, spec *Spec, h *Hold) {
			Sweep(s.image, s.notice)
			if !exists(s.image + ".snap") {
				s.t.Error("removed while it is in use")
			}
			h.Release()
			Sweep("/other", s.notice)
			if !exists(s.image + ".snap") {
				s.t.Error("removed for another path")
			}
			eventually(s.t, "removed", func() bool { Sweep(s.image, s.notice); return len(owners()) == 0 })
		},
		"removed": func(s *stage, spec *Spec, h *Hold) {
			h.Release()
			eventually(s.t, "left", func() bool { all := List(s.t.Context()); return len(all) == 1 && all[0].State == stateLeft })
			if err := Remove(s.t.Context(), spec.Owner[:8], s.notice); err != nil {
				s.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			spec := s.copies()
			h := s.prepare(spec)
			killKeeper(t, spec.Owner)
			then(s, spec, h)
			s.nothingLeft()
			if got := s.read("hooks"); strings.Count(got, "after_read") != 1 {
				t.Errorf("hooks: %q", got)
			}
		})
	}
}

// A keeper that is killed while it takes a snapshot leaves nothing that is not found.
func TestSet_KeeperKilledWhileTaking(t *testing.T) {
	s := newStage(t)
	spec := s.copies()
	spec.Take = []string{s.script("take", `cp "$BLOCKDEV_PATH" "$BLOCKDEV_PATH.snap"; kill -9 $PPID`)}
	_, err := Prepare(t.Context(), spec, false, s.notice)
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v", err)
	}
	if !exists(s.image + ".snap") {
		t.Fatal("it was not taken")
	}
	eventually(t, "removed", func() bool { Sweep(s.image, s.notice); return len(owners()) == 0 })
	s.nothingLeft()
}

// After a restart of the host a set is not what it was, and is removed, whoever asks for it.
func TestSet_Restart(t *testing.T) {
	s := newStage(t)
	spec := s.copies()
	h := s.prepare(spec)
	killKeeper(t, spec.Owner)
	h.st.Boot = "another"
	if err := h.set.save(h.st); err != nil {
		t.Fatal(err)
	}
	h.Release()
	if again := s.prepare(spec); again.Made().Equal(h.Made()) {
		t.Error("it was used")
	} else {
		again.Release()
	}
	if got := strings.Count(s.read("dropped"), "\n"); got != 1 {
		t.Errorf("%d removed", got)
	}
	if err := Conclude(t.Context(), spec.Owner, Success, true, s.notice); err != nil {
		t.Error(err)
	}
	s.nothingLeft()
}

// What cannot be removed is told, stays known, and is removed by the next who can.
func TestSet_NotRemoved(t *testing.T) {
	s := newStage(t)
	spec := s.copies()
	s.write("closed", "")
	spec.Drop = []string{s.script("drop", `test -e `+s.dir+`/closed && { echo "device busy" >&2; exit 7; }; rm -f "$BLOCKDEV_PATH.snap"`)}
	s.prepare(spec).Release()
	err := Conclude(t.Context(), spec.Owner, Success, true, s.notice)
	if err == nil || !strings.Contains(err.Error(), "snapshot_remove_command") || !strings.Contains(err.Error(), "exit status 7: device busy") {
		t.Errorf("got %v", err)
	}
	eventually(t, "left", func() bool { all := List(t.Context()); return len(all) == 1 && all[0].State == stateLeft })
	if err := Remove(t.Context(), spec.Owner, s.notice); err == nil || !strings.Contains(err.Error(), "device busy") {
		t.Errorf("got %v", err)
	}
	if _, err := Prepare(t.Context(), spec, false, s.notice); !errors.Is(err, device.ErrBusy) || !strings.Contains(err.Error(), "device busy") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(filepath.Join(s.dir, "closed")); err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), spec.Owner, s.notice); err != nil {
		t.Error(err)
	}
	s.nothingLeft()
	if got := s.read("hooks"); strings.Count(got, "after_read") != 1 {
		t.Errorf("hooks: %q", got)
	}
}

// Whatever goes wrong gets one line and leaves nothing.
func TestPrepare_Refusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*stage, *Spec)
		kind   error
		words  []string
	}{
		"kind":           {func(_ *stage, p *Spec) { p.Kind = "rbd" }, device.ErrUnsupported, []string{`"rbd"`}},
		"no program":     {func(_ *stage, p *Spec) { p.Take = []string{"/none/such"} }, device.ErrRefused, []string{"snapshot_command", "/none/such"}},
		"fails":          {func(s *stage, p *Spec) { p.Take = []string{s.script("take", "echo no luck >&2; exit 3")} }, device.ErrRefused, []string{"exit status 3: no luck"}},
		"prints nothing": {func(s *stage, p *Spec) { p.Take = []string{"true"} }, device.ErrRefused, []string{"last line"}},
		"prints no path": {func(s *stage, p *Spec) { p.Take = []string{"echo", "disk.img"} }, device.ErrRefused, []string{`"disk.img"`}},
		"hook fails":     {func(s *stage, p *Spec) { p.Before = []string{"false"} }, device.ErrRefused, []string{"before_read", "exit status 1"}},
		"no mountpoint":  {func(s *stage, p *Spec) { p.Freeze = []string{s.dir + "/none"} }, device.ErrNotFound, []string{"snapshot_freeze", "/none"}},
		"not a mount":    {func(s *stage, p *Spec) { p.Freeze = []string{s.dir} }, device.ErrRefused, []string{"snapshot_freeze", "no file system is mounted here"}},
		"cannot freeze":  {func(s *stage, p *Spec) { p.Freeze = []string{"/proc"} }, device.ErrUnsupported, []string{"/proc", "cannot be frozen"}},
		"no owner":       {func(_ *stage, p *Spec) { p.Owner = "../../../etc/passwd" }, device.ErrRefused, nil},
		"not LVM":        {func(_ *stage, p *Spec) { p.Kind = LVM }, device.ErrRefused, []string{"is not a logical volume"}},
		"not ZFS":        {func(_ *stage, p *Spec) { p.Kind = ZFS }, device.ErrRefused, []string{"is not a volume of ZFS"}},
		"second fails": {func(s *stage, p *Spec) {
			p.Group = []string{s.image, s.write("other.img", "x")}
			p.Take = append(p.Take, "x")
			s.once(p)
		}, device.ErrRefused, []string{"other.img", "no more"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			spec := s.copies()
			c.change(s, spec)
			s.fails(spec, c.kind, c.words...)
			if name != "no owner" && !strings.Contains(s.read("hooks"), "after_read "+s.image+" failed") {
				t.Errorf("hooks: %q", s.read("hooks"))
			}
		})
	}
}

// once makes the command that takes a snapshot fail the second time.
func (s *stage) once(spec *Spec) {
	spec.Take = []string{s.script("take", `test -e `+s.dir+`/was && { echo no more >&2; exit 1; }; touch `+s.dir+`/was; cp "$BLOCKDEV_PATH" "$BLOCKDEV_PATH.snap"; echo "$BLOCKDEV_PATH.snap"`)}
}

// A client that gives up while a hook runs ends it.
func TestPrepare_Cancelled(t *testing.T) {
	s := newStage(t)
	spec := s.copies()
	spec.Before = []string{s.script("slow", "trap 'touch "+s.dir+"/undone; exit 1' TERM; touch "+s.dir+"/started; sleep 60 & wait")}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		eventually(t, "started", func() bool { return exists(s.dir + "/started") })
		cancel()
	}()
	start := time.Now()
	if h, err := Prepare(ctx, spec, false, s.notice); err == nil {
		h.Release()
		t.Error("prepared")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if !exists(s.dir + "/undone") {
		t.Error("the hook was killed before it could undo anything")
	}
	s.nothingLeft()
}
