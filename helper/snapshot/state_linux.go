package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// A set has up to three files, named after its owner:
//
//	OWNER.lock  byte 0 is locked by its keeper, byte 1 by everyone who needs it (shared)
//	OWNER.state  its state; written by the keeper
//	OWNER.end   how the transfer ended; written by whoever concludes it
//
// Locks are of open files, so that they end with the last process that has one, whatever happens to it.

// phase is where a set is in its life.
type phase string

const (
	preparing phase = "preparing"
	ready     phase = "ready"
	ending    phase = "ending"
	ended     phase = "ended" // Log and Problem are final
)

// state is what is stored of a set.
type state struct {
	Spec    Spec
	Boot    string    // of the host when it was made
	Made    time.Time // when the snapshots were taken
	Phase   phase
	Members []Member
	Problem *problem // why it could not be made, or not be ended
	Log     []string // what hooks and removal had to say at the end
}

// stateDirs are the directories for the files, best first: sets must be known after a restart of the host. They are
// closed to other users.
func stateDirs() []string {
	if dir := os.Getenv("BLOCKDEV_STATE_DIR"); dir != "" {
		return []string{dir}
	}
	if os.Geteuid() == 0 {
		return []string{"/var/lib/blockdev-helper", "/run/blockdev-helper/sets"}
	}
	var dirs []string
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".local/state/blockdev-helper"))
	}
	if run := os.Getenv("XDG_RUNTIME_DIR"); run != "" {
		dirs = append(dirs, filepath.Join(run, "blockdev-helper"))
	}
	return dirs
}

// makeStateDir is the first of the directories that can be used.
func makeStateDir() (string, error) {
	var first error
	for _, dir := range stateDirs() {
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			err = private(dir)
		}
		if err == nil {
			return dir, nil
		}
		first = errors.Join(first, err)
	}
	return "", fmt.Errorf("no directory to keep the state of a snapshot in: %w", first)
}

// private refuses a directory that others can write, or that they own.
func private(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != uint32(os.Geteuid()) || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s: is not a directory of this user's own", dir)
	}
	return unix.Access(dir, unix.W_OK)
}

// set is one set on disk, with its lock file open.
type set struct {
	dir, owner string
	lock       *os.File
}

func (s *set) file(ext string) string { return filepath.Join(s.dir, s.owner+ext) }

// openSet opens the lock file of a set. With create it must not exist.
func openSet(dir, owner string, create bool) (*set, error) {
	s := &set{dir: dir, owner: owner}
	flags := os.O_RDWR | unix.O_NOFOLLOW
	if create {
		flags |= os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(s.file(".lock"), flags, 0o600)
	if err != nil {
		return nil, err
	}
	s.lock = f
	return s, nil
}

func (s *set) close() { s.lock.Close() }

// The bytes of the lock file.
const (
	keeperByte = 0
	userByte   = 1
)

func (s *set) setLock(typ int16, at int64) error {
	return s.control(func(fd uintptr) error {
		return unix.FcntlFlock(fd, unix.F_OFD_SETLK, &unix.Flock_t{Type: typ, Start: at, Len: 1})
	})
}

func (s *set) control(fn func(fd uintptr) error) error {
	raw, err := s.lock.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = fn(fd) }); err != nil {
		return err
	}
	return inner
}

// keep makes this process the keeper. It fails when there is another one.
func (s *set) keep() error { return s.setLock(unix.F_WRLCK, keeperByte) }

// use notes that the set is needed, until close. It fails for one that was removed since it was opened.
func (s *set) use() error {
	if err := s.setLock(unix.F_RDLCK, userByte); err != nil {
		return err
	}
	if !s.current() {
		return unix.ENOENT
	}
	return nil
}

// current tells whether the set was not removed since it was opened.
func (s *set) current() bool {
	var mine, there unix.Stat_t
	err := s.control(func(fd uintptr) error { return unix.Fstat(int(fd), &mine) })
	return err == nil && unix.Lstat(s.file(".lock"), &there) == nil && mine.Ino == there.Ino && mine.Dev == there.Dev
}

// locked tells whether anybody else holds a lock at a byte.
func (s *set) locked(at int64) bool {
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1}
	err := s.control(func(fd uintptr) error { return unix.FcntlFlock(fd, unix.F_OFD_GETLK, &l) })
	return err != nil || l.Type != unix.F_UNLCK
}

func (s *set) load() (*state, error) {
	text, err := os.ReadFile(s.file(".state"))
	if err != nil {
		return nil, err
	}
	st := new(state)
	err = st.Spec.unmarshal(string(text), func(l line) (err error) {
		switch l.key {
		case "boot":
			st.Boot = l.value(0)
		case "made":
			st.Made, err = l.time()
		case "phase":
			st.Phase = phase(l.value(0))
		case "member":
			st.Members = append(st.Members, Member{})
			err = st.Members[len(st.Members)-1].unmarshal(l)
		case "problem":
			st.Problem = l.problem()
		case "log":
			st.Log = l.values
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.file(".state"), err)
	}
	return st, nil
}

// save replaces the stored state, durably: it must be known after a crash what there is to remove.
func (s *set) save(st *state) error {
	b := st.Spec.marshal(nil)
	b = add(b, "boot", st.Boot)
	b = add(b, "made", strconv.FormatInt(st.Made.UnixNano(), 10))
	b = add(b, "phase", string(st.Phase))
	b = add(b, "log", st.Log...)
	for i := range st.Members {
		b = st.Members[i].marshal(b)
	}
	if st.Problem != nil {
		b = st.Problem.marshal(b)
	}
	return s.write(".state", b)
}

func (s *set) write(ext string, text []byte) error {
	fresh := s.file(ext + ".new")
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(fresh, s.file(ext))
}

// remove forgets the set. The lock file goes last: without it nobody finds the others.
func (s *set) remove() {
	if !s.current() {
		return
	}
	for _, ext := range []string{".state.new", ".state", ".end.new", ".end", ".lock"} {
		_ = os.Remove(s.file(ext))
	}
}

// conclude stores how the transfer ended, for the keeper.
func (s *set) conclude(o Outcome) error { return s.write(".end", []byte(o)) }

// conclusion is what conclude stored, empty for nothing yet.
func (s *set) conclusion() Outcome {
	text, err := os.ReadFile(s.file(".end"))
	switch o := Outcome(text); {
	case err != nil:
		return ""
	case o == Success:
		return o
	default:
		return Failed
	}
}

// owners are those of all sets, with their directories.
func owners() (found [][2]string) {
	for _, dir := range stateDirs() {
		if private(dir) != nil {
			continue
		}
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if owner, ok := strings.CutSuffix(e.Name(), ".lock"); ok && isOwner(owner) {
				found = append(found, [2]string{dir, owner})
			}
		}
	}
	return found
}

func isOwner(s string) bool { return len(s) == 32 && isHex(s) }

// bootID is what the kernel says of the present boot.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// notFound is the error for a set that is not there any more.
func notFound(path string) error {
	return fail(device.ErrNotFound, path, "its snapshot is not there any more")
}
