package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// SharedClaim reports whether this system lets followers prove that a leader
// holds a claim.
const SharedClaim = true

// Where locks are taken. They are locks of the open file (OFD), so they work
// between goroutines of one process as between processes, end with the last
// descriptor, and conflict with the ones that virtual machines take on their
// images (qemu: bytes 100 to 299). Beyond the largest possible file the bytes
// mean: one for each token, held by the leader of that transfer, and one shared
// by all followers, which a new leader must find free.
const (
	claimBytes   = 1 << 61
	tokenBase    = 1 << 61
	followerByte = 1 << 62

	qemuWriteByte = 101 // read-locked by a virtual machine that writes
)

func (t Token) lockByte() int64 {
	return tokenBase + int64(binary.BigEndian.Uint64(t[:8])>>3)
}

// openExclusive opens a device for writing. A leader claims it, as mounting
// does, and so finds out who has; followers rely on the leader's claim.
func openExclusive(path string, info Info, w WriteOptions) (*os.File, []string, error) {
	if w.follower() {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		return f, nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
	if !errors.Is(err, unix.EBUSY) {
		return f, nil, err
	}
	uses := host.uses(info.ID)
	if len(uses) == 0 {
		uses = []use{{"it", "is held open exclusively by another program, or mounted in another namespace", "fuser -v " + path + " may name it", true}}
	}
	if !w.Force {
		return nil, nil, busy(path, uses)
	}
	f, err = os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, nil, refuse(ErrBusy, "open", path, "in use: %s; this kernel does not allow to force the write: %s", uses[0], uses[0].remedy)
	}
	return f, forced(path, uses), err
}

// claim makes a leader's right to write known, or checks a follower's.
func (o *Object) claim(w WriteOptions) error {
	if o.follower {
		return o.follow(w.Claim)
	}
	if err := o.unattached(w.Force); err != nil {
		return err
	}
	err := lock(o.f, unix.F_WRLCK, 0, claimBytes)
	if err == nil {
		var held bool
		if held, err = locked(o.f, unix.F_WRLCK, followerByte, 1); held {
			err = unix.EAGAIN
		}
	}
	switch {
	case err == nil:
	case noLocks(err):
		return nil
	case !isLocked(err):
		return fail("lock", o.path, err)
	case !w.Force:
		return refuse(ErrBusy, "open", o.path, "in use: another program, such as a virtual machine or another copy, has locked it; end that first or force the write")
	default:
		o.note(fmt.Sprintf("%s: written by force although another program has locked it", o.path))
	}
	if (w.Claim == Token{}) {
		return nil
	}
	if err := lock(o.f, unix.F_WRLCK, w.Claim.lockByte(), 1); err != nil {
		return fail("lock", o.path, err)
	}
	o.shared = true
	return nil
}

// unattached refuses what can be opened exclusively although it is in use: the
// backing of a loop device, and files used as swap.
func (o *Object) unattached(force bool) error {
	uses := host.loops("it", o.info.ID)
	if o.info.Kind == File {
		uses = host.uses(o.info.ID)
	}
	switch {
	case len(uses) == 0:
		return nil
	case !force:
		return busy(o.path, uses)
	case o.info.Kind == File || len(o.notices) == 0:
		o.notices = append(o.notices, forced(o.path, uses)...)
	}
	return nil
}

// follow registers a follower and then looks for the leader's lock, in this
// order: a leader that comes later finds the follower.
func (o *Object) follow(t Token) error {
	err := lock(o.f, unix.F_RDLCK, followerByte, 1)
	if isLocked(err) {
		return claimGone(o.path)
	}
	held := false
	if err == nil {
		held, err = locked(o.f, unix.F_WRLCK, t.lockByte(), 1)
	}
	switch {
	case noLocks(err):
		return refuse(ErrUnsupported, "open", o.path, "its file system has no locks: only one stream can write it")
	case err != nil:
		return fail("lock", o.path, err)
	case !held:
		return claimGone(o.path)
	}
	return nil
}

// lock takes a lock that lasts until f is closed.
func lock(f *os.File, kind int16, start, n int64) error {
	lk := unix.Flock_t{Type: kind, Start: start, Len: n}
	return withFD(f, func(fd uintptr) error { return unix.FcntlFlock(fd, unix.F_OFD_SETLK, &lk) })
}

// locked reports whether others hold a lock that conflicts with this one.
func locked(f *os.File, kind int16, start, n int64) (bool, error) {
	lk := unix.Flock_t{Type: kind, Start: start, Len: n}
	err := withFD(f, func(fd uintptr) error { return unix.FcntlFlock(fd, unix.F_OFD_GETLK, &lk) })
	return err == nil && lk.Type != unix.F_UNLCK, err
}

func isLocked(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES)
}

// noLocks reports whether the file system or kernel has no such locks at all.
func noLocks(err error) bool {
	return errors.Is(err, unix.ENOLCK) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)
}

// writerOf names who writes to an object that is read, as far as locks tell.
func writerOf(f *os.File) string {
	if held, _ := locked(f, unix.F_RDLCK, 0, claimBytes); held {
		return "another copy"
	}
	if held, _ := locked(f, unix.F_WRLCK, qemuWriteByte, 1); held {
		return "a virtual machine"
	}
	return ""
}
