package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// keeper makes, keeps and ends one set. It runs in a process of its own, or, for a set whose keeper was killed, in
// that of the helper which found it.
type keeper struct {
	*set
	st       *state
	say      func(answer)  // to the helper that waits
	patience time.Duration // with those who have a snapshot open when it is to be removed
}

// answer is a line from a keeper to the helper that started it: one of these.
type answer struct {
	Notice  string
	Problem *problem
	Ready   bool
}

func (a answer) marshal() []byte {
	switch {
	case a.Problem != nil:
		return a.Problem.marshal(nil)
	case a.Ready:
		return add(nil, "ready")
	}
	return add(nil, "notice", a.Notice)
}

// Times of a keeper.
const (
	pollTime   = 100 * time.Millisecond // between two looks at the locks
	leastGrace = 5 * time.Second        // a client that has closed what it read is about to conclude the set
	dropTime   = time.Minute            // for what reads a snapshot to let go of it
	hastyTime  = 2 * time.Second        // dropTime of a helper that has something else to do
	listenTime = 10 * time.Second       // for who concluded the set to take the result
)

// runKeeper is the keeper's process. Without a specification on its input it takes over a set that is ready.
func runKeeper(ctx context.Context, dir, owner string) error {
	s, err := openSet(dir, owner, false)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.keep(); err != nil {
		return fmt.Errorf("another process keeps the set: %w", err)
	}
	k := &keeper{set: s, patience: dropTime, say: func(a answer) { _, _ = os.Stdout.Write(a.marshal()) }}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var spec Spec
	if spec.unmarshal(string(input), func(line) error { return errNoLine }) == nil {
		k.st = &state{Spec: spec, Boot: bootID(), Phase: preparing}
		if err := k.prepare(ctx); err != nil {
			k.say(answer{Problem: problemOf(k.undo(err))})
			return nil
		}
	} else if k.st, err = s.load(); err != nil {
		return err
	}
	k.say(answer{Ready: true})
	_ = os.Stdout.Close()
	_ = os.Stdin.Close()
	k.say = func(answer) {}
	k.end(k.watch(ctx))
	return nil
}

// prepare runs the hook and takes the snapshots. When ctx ends it stops after the step that runs: a program of the
// volume manager that is killed may leave what no program removes.
func (k *keeper) prepare(ctx context.Context) error {
	spec := &k.st.Spec
	if err := k.save(k.st); err != nil {
		return fail(device.ErrIO, spec.Path, "the state of its snapshot cannot be stored: %v", err)
	}
	wanted, stop := k.whileWanted(ctx)
	err := k.hook(wanted, "before", spec.Before, "")
	if stop(); err != nil {
		return err
	}
	if k.conclusion() != "" || ctx.Err() != nil {
		return fail(device.ErrBusy, spec.Path, "was cancelled before its snapshot was taken")
	}
	ctx = context.WithoutCancel(ctx)
	now := time.Now()
	for _, path := range spec.paths() {
		kd, err := kindOf(spec.Kind)
		if err != nil {
			return err
		}
		info, err := device.Stat(path)
		if err != nil {
			return err
		}
		m, err := kd.plan(ctx, spec, path, now)
		if err != nil {
			return err
		}
		m.ID = info.ID
		k.st.Members = append(k.st.Members, m)
		sweepStrays(ctx, &m, func(text string) { k.say(answer{Notice: text}) })
	}
	if err := k.save(k.st); err != nil { // names first: a killed keeper must leave nothing that is not known
		return fail(device.ErrIO, spec.Path, "the state of its snapshot cannot be stored: %v", err)
	}
	if err := k.take(ctx); err != nil {
		return err
	}
	k.st.Made, k.st.Phase = time.Now(), ready
	if err := k.save(k.st); err != nil {
		return fail(device.ErrIO, spec.Path, "the state of its snapshot cannot be stored: %v", err)
	}
	return nil
}

// whileWanted is a context that ends when the set is concluded before it is ready.
func (k *keeper) whileWanted(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for k.conclusion() == "" && ctx.Err() == nil {
			time.Sleep(pollTime)
		}
	}()
	return ctx, cancel
}

// take takes all snapshots, the file systems being frozen meanwhile.
func (k *keeper) take(ctx context.Context) (err error) {
	spec := &k.st.Spec
	mounts, err := k.toFreeze()
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		fz, err := freeze(mounts, spec.FreezeTime)
		if err != nil {
			return err
		}
		err = k.takeAll(ctx)
		if late := fz.thaw(); late != nil {
			return fail(device.ErrBusy, mounts[0], "snapshot_freeze: %v: the snapshot is not used (%v)", late, errOr(err, "it was taken afterwards"))
		}
		return err
	}
	return k.takeAll(ctx)
}

func errOr(err error, text string) error {
	if err == nil {
		return errors.New(text)
	}
	return err
}

func (k *keeper) takeAll(ctx context.Context) error {
	for i := range k.st.Members {
		m := &k.st.Members[i]
		if err := kinds[m.Kind].take(ctx, &k.st.Spec, m); err != nil {
			return err
		}
		if info, err := device.Stat(m.Path); err != nil || info.ID != m.ID {
			return fail(device.ErrRefused, m.Path, "became another object while its snapshot was taken")
		}
	}
	return nil
}

// toFreeze are the mountpoints to be frozen. A file system that is right on a volume is frozen by LVM when it takes the
// snapshot. When it is frozen already that fails, and leaves the volume in a state that nobody wants to mend.
func (k *keeper) toFreeze() (mounts []string, err error) {
	spec := &k.st.Spec
	for _, path := range spec.Freeze {
		f, err := openMountpoint(path)
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		f.Close()
		if err != nil {
			return nil, fail(device.ErrIO, path, "snapshot_freeze: %v", err)
		}
		on := k.membersOn(info)
		switch {
		case spec.Limited && !on:
			return nil, fail(device.ErrRefused, path, "snapshot_freeze: the helper on this host is limited, and this file system is not on what is read")
		case spec.Kind == Reflink && on:
			return nil, fail(device.ErrRefused, path, "snapshot_freeze: the image is on this file system, which cannot make a clone while it is frozen: name the one inside")
		case (spec.Kind == LVM || spec.Kind == LVMThin) && on && len(k.st.Members) > 1:
			return nil, fail(device.ErrRefused, path, "snapshot_freeze: this file system is right on one of the volumes, and LVM takes no snapshot of a volume "+
				"whose file system is frozen: leave it out, LVM freezes it for the snapshot of that volume")
		case (spec.Kind == LVM || spec.Kind == LVMThin) && on:
			k.say(answer{Notice: path + ": is frozen by LVM itself while it takes the snapshot"})
			continue
		}
		mounts = append(mounts, path)
	}
	return mounts, nil
}

// membersOn tells whether a file system is on one of the originals, or has one of them.
func (k *keeper) membersOn(mounted os.FileInfo) bool {
	for _, m := range k.st.Members {
		dev, err := number(m.Path)
		if err != nil {
			if info, statErr := os.Stat(m.Path); statErr == nil {
				dev, err = deviceOf(info), nil
			}
		}
		if err == nil && dev == deviceOf(mounted) {
			return true
		}
	}
	return false
}

// watch waits until the set is concluded, or nobody has needed it for the grace time.
func (k *keeper) watch(ctx context.Context) Outcome {
	last := time.Now()
	for {
		select {
		case <-time.After(pollTime):
		case <-ctx.Done(): // the host shuts down
			return Lost
		}
		if o := k.conclusion(); o != "" {
			return o
		}
		if k.locked(userByte) {
			last = time.Now()
			continue
		}
		if time.Since(last) < max(k.st.Spec.Grace, leastGrace) {
			continue
		}
		k.setPhase(ending)
		if !k.locked(userByte) {
			return Lost
		}
		k.setPhase(ready) // somebody came back at the last moment
		last = time.Now()
	}
}

func (k *keeper) setPhase(p phase) {
	k.st.Phase = p
	if err := k.save(k.st); err != nil {
		k.st.Log = append(k.st.Log, err.Error())
	}
}

// undo ends a set that could not be made, and returns why, with what could not be undone.
func (k *keeper) undo(why error) error {
	ctx := context.Background()
	err := k.dropAll(ctx)
	if hookErr := k.hook(ctx, "after", k.st.Spec.After, Failed); hookErr != nil {
		k.say(answer{Notice: hookErr.Error()})
	}
	if err == nil {
		k.remove()
		return why
	}
	k.st.Problem = problemOf(err)
	k.setPhase(ended)
	p := problemOf(why)
	p.Text += "; and what was begun could not be undone: " + err.Error()
	return p.err(k.st.Spec.Path)
}

// end undoes everything and forgets the set, unless something is left.
func (k *keeper) end(o Outcome) {
	ctx := context.Background()
	k.setPhase(ending)
	err := k.dropAll(ctx)
	k.say = func(a answer) { k.st.Log = append(k.st.Log, a.Notice) }
	err = errors.Join(err, k.hook(ctx, "after", k.st.Spec.After, o))
	k.st.Spec.After = nil // not once more, when a later helper tries to remove what is left
	k.st.Problem = problemOf(err)
	k.setPhase(ended)
	for end := time.Now().Add(listenTime); k.locked(userByte) && k.current() && time.Now().Before(end); {
		time.Sleep(pollTime / 4)
	}
	if !k.left() {
		k.remove()
	}
}

// dropAll removes all snapshots of the set. Who reads one may still be about to close it.
func (k *keeper) dropAll(ctx context.Context) error {
	var all error
	for i := len(k.st.Members) - 1; i >= 0; i-- {
		m := &k.st.Members[i]
		if err := k.drop(ctx, m); err != nil {
			all = errors.Join(all, err)
		} else {
			m.Kind = "" // gone
		}
	}
	k.st.Members = remaining(k.st.Members)
	return all
}

func (k *keeper) drop(ctx context.Context, m *Member) error {
	for end := time.Now().Add(k.patience); ; {
		err := kinds[m.Kind].drop(ctx, &k.st.Spec, m)
		if !errors.Is(err, errInUse) {
			return err
		}
		if time.Now().After(end) {
			return fail(device.ErrBusy, m.Path, "its snapshot %s is not removed: %v", m.Name, err)
		}
		time.Sleep(pollTime)
	}
}

func remaining(all []Member) (left []Member) {
	for _, m := range all {
		if m.Kind != "" {
			left = append(left, m)
		}
	}
	return left
}

// left tells whether there is something that could not be removed.
func (k *keeper) left() bool { return len(k.st.Members) > 0 }

// hook runs a program of the user, and passes on what it prints.
func (k *keeper) hook(ctx context.Context, when string, words []string, o Outcome) error {
	if len(words) == 0 {
		return nil
	}
	spec := &k.st.Spec
	name := when + "_read"
	if spec.Write {
		name = when + "_write"
	}
	env := []string{"BLOCKDEV_HOOK=" + name, "BLOCKDEV_PATH=" + spec.Path, "BLOCKDEV_OWNER=" + spec.Owner,
		"BLOCKDEV_IDENTITY=" + identities(spec.Path), "BLOCKDEV_OUTCOME=" + string(o)}
	out, said, err := execute(ctx, hookTime, env, words)
	for _, line := range append(lines(out), lines(said)...) {
		k.say(answer{Notice: name + ": " + line})
	}
	if err != nil {
		return hookFailed(spec.Path, name, words, said, err)
	}
	return nil
}

// identities are what tells a device from others, one a line.
func identities(path string) string {
	facts, err := device.Describe(path, false)
	if err != nil {
		return ""
	}
	var ids []string
	for _, f := range facts {
		if f.Key == "ids" {
			ids = append(ids, f.Value)
		}
	}
	return strings.Join(ids, "\n")
}
