package device

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// stamping are the file systems that are known to stamp a file before each change of it,
// those through a mapping included, and to write-protect mapped pages when it is synced.
// In memory, as in tmpfs, nothing is ever written back, and so nothing protected.
var stamping = map[int64]bool{unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true}

const (
	stampTries = 5
	stampLimit = time.Second // for the clock to pass a stamp
)

// fileFacts are the facts of a file, and its stamp. When they come, the tick of its stamp has passed,
// so that a later change has another one; and it was made durable after that, so that
// whoever has a page of it mapped must come by the file system to change it.
func fileFacts(f *os.File, path string) (facts []Fact, stamp int64, err error) {
	var fs unix.Statfs_t
	if err := withFD(f, func(fd uintptr) error { return unix.Fstatfs(int(fd), &fs) }); err != nil {
		return nil, 0, fail("stat", path, err)
	}
	if !stamping[int64(fs.Type)] {
		return nil, 0, cannotWitness(path, "its file system is none of ext4, xfs and btrfs, whose times are known to tell each change")
	}
	for range stampTries {
		before, err := fileStamp(f)
		if err == nil {
			err = passTick(before.Ctim, path)
		}
		if err != nil {
			return nil, 0, fail("stat", path, err)
		}
		if before, err = fileStamp(f); err != nil {
			return nil, 0, fail("stat", path, err)
		}
		if now := coarse(); before.Ctim.Nano() >= now {
			continue // changed again
		}
		if err := f.Sync(); err != nil {
			return nil, 0, fail("sync", path, err)
		}
		after, err := fileStamp(f)
		if err != nil {
			return nil, 0, fail("stat", path, err)
		}
		if before.Ctim == after.Ctim && before.Mtim == after.Mtim && before.Size == after.Size {
			dev := numberOf(after.Dev)
			return []Fact{
				{"the file " + path, fmt.Sprintf("%d on %s, disk number %s, of %d bytes", after.Ino, dev, host.diskseq(dev), after.Size)},
				{"the time of " + path, fmt.Sprintf("%d.%09d, content %d.%09d", after.Ctim.Sec, after.Ctim.Nsec, after.Mtim.Sec, after.Mtim.Nsec)},
			}, after.Ctim.Nano(), nil
		}
	}
	return nil, 0, cannotWitness(path, "somebody writes to it all the time")
}

func fileStamp(f *os.File) (st unix.Stat_t, err error) {
	err = withFD(f, func(fd uintptr) error { return unix.Fstat(int(fd), &st) })
	return st, err
}

// coarse is the clock that files are stamped with, in nanoseconds.
func coarse() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) // all of Linux has it
	return now.Nano()
}

// passTick waits until a stamp that is made now is later than this one.
func passTick(stamp unix.Timespec, path string) error {
	for end := time.Now().Add(stampLimit); coarse() <= stamp.Nano(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return cannotWitness(path, "its time lies in the future: the clock was set back")
		}
	}
	return nil
}

// diskseq is the number of the disk that a file system is on, empty where it has none.
func (k kernel) diskseq(n number) string {
	dir, err := k.dir(n)
	if err != nil {
		return ""
	}
	if isPartition(dir) {
		dir = filepath.Dir(dir)
	}
	return text(dir, "diskseq")
}

// Seal is the end of all that may be written to the target by the transfer that o leads:
// it waits until its followers have closed, and lets none come any more. Of a file it
// also finds who else has it open for writing: that may be in the middle of it.
func (o *Object) Seal(limit time.Duration) error {
	for end := time.Now().Add(limit); o.shared; time.Sleep(10 * time.Millisecond) {
		err := lock(o.f, unix.F_WRLCK, followerByte, 1)
		if err == nil {
			break
		}
		if !isLocked(err) || time.Now().After(end) {
			return cannotWitness(o.path, "other streams of the transfer still have it open: %v", err)
		}
	}
	if o.info.Kind == Block {
		return nil
	}
	o.direct.close()
	o.exact.close()
	o.back.close()
	return o.alone(time.Now().Add(leaseLimit))
}

// leaseLimit is for programs that do no more than look whether the target is free, as the next run of the transfer does.
const leaseLimit = time.Second

// alone finds out whether nobody else has the file open, for which it waits until the end. To wait is as if the transfer
// had ended later: what is seen of others is the same.
func (o *Object) alone(end time.Time) error {
	for {
		// A lease is given only to the one who has a file open.
		err := withFD(o.f, func(fd uintptr) error {
			_, err := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_WRLCK)
			if err == nil {
				_, err = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
			}
			return err
		})
		switch {
		case !errors.Is(err, unix.EAGAIN):
			return fail("lease", o.path, err)
		case time.Now().After(end):
			return cannotWitness(o.path, "another program has it open")
		}
		time.Sleep(time.Millisecond)
	}
}
