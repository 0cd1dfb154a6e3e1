package snapshot

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// A file system that stays frozen stops a host. So three processes see to it that it is thawed: the freezer, which
// freezes and thaws, when it is told to, when the time is over, or when its keeper is gone; the watcher, which thaws
// when the freezer is gone, or when it has not thawed in time; and the keeper, which thaws when the freezer ends without
// a word. All have the mountpoints open before one is frozen. None touches a file system in between.

// ioctls of linux/fs.h
const (
	fiFreeze = 0xc0045877 // _IOWR('X', 119, int)
	fiThaw   = 0xc0045878 // _IOWR('X', 120, int)
)

// frozen are file systems that are frozen now.
type frozen struct {
	cmd   *exec.Cmd
	tell  io.WriteCloser // to the freezer
	hear  *bufio.Reader  // from the freezer
	dirs  []*os.File
	ended chan string // its last word, then closed

	once sync.Once
	err  error // of thaw
}

// freeze freezes the file systems that are mounted at the paths, for limit at most.
func freeze(paths []string, limit time.Duration) (*frozen, error) {
	fz := &frozen{ended: make(chan string, 1)}
	for _, path := range paths {
		f, err := openMountpoint(path)
		if err != nil {
			fz.closeDirs()
			return nil, err
		}
		fz.dirs = append(fz.dirs, f)
	}
	cmd := again(roleFreezer, nanoseconds(limit), strconv.Itoa(len(paths)))
	cmd.ExtraFiles = fz.dirs
	err := fz.start(cmd)
	if err != nil {
		fz.closeDirs()
		return nil, fail(device.ErrIO, paths[0], "snapshot_freeze: %v", err)
	}
	line, err := fz.hear.ReadString('\n')
	line = strings.TrimSpace(line)
	if err != nil || line != wordFrozen {
		if line == "" { // it was killed; else it has thawed what it had frozen
			fz.thawSelf()
		}
		_ = fz.tell.Close()
		_ = fz.cmd.Wait()
		fz.closeDirs()
		return nil, freezeFailed(paths, line)
	}
	go func() {
		line, _ := fz.hear.ReadString('\n')
		line = strings.TrimSpace(line)
		if line != wordThawed && line != wordLate {
			fz.thawSelf()
		}
		fz.ended <- line
		close(fz.ended)
	}()
	return fz, nil
}

func nanoseconds(d time.Duration) string { return strconv.FormatInt(int64(d), 10) }

// openMountpoint opens what a file system is mounted at. Any other directory would freeze the one it is on.
func openMountpoint(path string) (*os.File, error) {
	if !filepath.IsAbs(path) {
		return nil, fail(device.ErrRefused, path, "snapshot_freeze: is not an absolute path")
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fail(device.ErrNotFound, path, "snapshot_freeze: there is no such mountpoint")
	}
	mounted, err := isMountpoint(real)
	if err != nil || !mounted {
		return nil, fail(device.ErrRefused, path, "snapshot_freeze: no file system is mounted here: name a mountpoint")
	}
	f, err := os.OpenFile(real, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fail(device.ErrPermission, path, "snapshot_freeze: cannot be opened: %v", err)
	}
	return f, nil
}

func isMountpoint(path string) (bool, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(info)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && unescape(fields[4]) == path {
			return true, nil
		}
	}
	return false, nil
}

// unescape is a path of mountinfo as it is: blanks and the like are in octal there.
func unescape(s string) string {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out = append(out, byte(n))
				i += 3
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

func (fz *frozen) start(cmd *exec.Cmd) error {
	tell, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	hear, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	fz.cmd, fz.tell, fz.hear = cmd, tell, bufio.NewReader(hear)
	return cmd.Start()
}

func freezeFailed(paths []string, said string) error {
	at, text, ok := strings.Cut(said, ": ")
	n, err := strconv.Atoi(at)
	if !ok || err != nil || n < 0 || n >= len(paths) {
		return fail(device.ErrIO, paths[0], "snapshot_freeze: the process that freezes ended without a word")
	}
	kind := device.ErrIO
	switch text {
	case unix.EPERM.Error(), unix.EACCES.Error():
		kind, text = device.ErrPermission, "only root may freeze a file system, use the option sudo"
	case unix.EBUSY.Error():
		kind, text = device.ErrBusy, "somebody has frozen it already"
	case unix.EOPNOTSUPP.Error():
		kind, text = device.ErrUnsupported, "its file system cannot be frozen"
	}
	return fail(kind, paths[n], "snapshot_freeze: %s", text)
}

// thaw ends the freeze. It fails when that had ended before: then what was done meanwhile is not of one moment.
func (fz *frozen) thaw() error {
	fz.once.Do(func() {
		_ = fz.tell.Close()
		line := <-fz.ended
		_ = fz.cmd.Wait()
		fz.closeDirs()
		switch line {
		case wordThawed:
		case wordLate:
			fz.err = errors.New("freeze_timeout was over before the snapshot was taken")
		default:
			fz.err = errors.New("the process that froze was killed")
		}
	})
	return fz.err
}

// thawSelf is for a freezer that cannot.
func (fz *frozen) thawSelf() {
	for _, f := range fz.dirs {
		_ = unix.IoctlSetInt(int(f.Fd()), fiThaw, 0)
	}
}

func (fz *frozen) closeDirs() {
	for _, f := range fz.dirs {
		f.Close()
	}
}

// What the freezer says to its keeper, and the watcher to the freezer.
const (
	wordFrozen = "frozen"
	wordThawed = "thawed"
	wordLate   = "late"
	wordArmed  = "armed"
	wordDone   = "done"
)

// inherited are the mountpoints that a freezer or a watcher was started with.
func inherited(count string) (dirs []*os.File) {
	n, _ := strconv.Atoi(count)
	for i := range n {
		dirs = append(dirs, os.NewFile(uintptr(3+i), "mountpoint"))
	}
	return dirs
}

// freezer is the process that freezes.
func freezer(limit time.Duration, count string) error {
	dirs := inherited(count)
	for _, f := range dirs { // so that less is written while all others wait
		_ = unix.Syncfs(int(f.Fd()))
	}
	watch := again(roleWatcher, nanoseconds(limit), count)
	watch.ExtraFiles = dirs
	var w frozen
	if err := w.start(watch); err != nil {
		return err
	}
	if line, err := w.hear.ReadString('\n'); err != nil || strings.TrimSpace(line) != wordArmed {
		return errors.New("the watcher does not answer")
	}
	over := time.After(limit - limit/20) // before the watcher does it
	for i, f := range dirs {
		fmt.Fprintf(w.tell, "+%d\n", i)
		if err := unix.IoctlSetInt(int(f.Fd()), fiFreeze, 0); err != nil {
			fmt.Fprintf(w.tell, "-%d\n", i)
			thawAll(dirs[:i])
			w.dismiss()
			fmt.Printf("%d: %v\n", i, err)
			return nil
		}
	}
	fmt.Println(wordFrozen)
	word := wordThawed
	select {
	case <-closed(os.Stdin):
	case <-closed(w.hear): // nobody watches any more
		word = "the watcher was killed"
	case <-over:
		word = wordLate
	}
	if !thawAll(dirs) && word == wordThawed {
		word = wordLate
	}
	w.dismiss()
	fmt.Println(word)
	return nil
}

// dismiss ends the watcher, and waits for a moment until it has let go of the mountpoints.
func (fz *frozen) dismiss() {
	fmt.Fprintln(fz.tell, wordDone)
	gone := make(chan struct{})
	go func() {
		_ = fz.cmd.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(time.Second):
	}
}

// closed is closed when r ends.
func closed(r io.Reader) <-chan struct{} {
	ch := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, r)
		close(ch)
	}()
	return ch
}

// thawAll thaws what is frozen, and tells whether all of it was.
func thawAll(dirs []*os.File) bool {
	all := true
	for _, f := range dirs {
		all = unix.IoctlSetInt(int(f.Fd()), fiThaw, 0) == nil && all
	}
	return all
}

// watcher is the process that thaws when the freezer does not.
func watcher(limit time.Duration, count string) error {
	dirs := inherited(count)
	over := time.After(limit)
	fmt.Println(wordArmed)
	said := make(chan string)
	go func() {
		defer close(said)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			said <- in.Text()
		}
	}()
	marked := map[int]bool{}
	for {
		select {
		case line, ok := <-said:
			n, err := strconv.Atoi(strings.TrimLeft(line, "+-"))
			switch {
			case !ok: // the freezer was killed
				thawMarked(dirs, marked)
				return nil
			case line == wordDone:
				return nil
			case err == nil:
				marked[n] = line[0] == '+'
			}
		case <-over:
			thawMarked(dirs, marked)
			over = time.After(20 * time.Millisecond) // it may still be freezing
		}
	}
}

func thawMarked(dirs []*os.File, marked map[int]bool) {
	for i, f := range dirs {
		if marked[i] && unix.IoctlSetInt(int(f.Fd()), fiThaw, 0) == nil {
			marked[i] = false // what is frozen from now on is none of ours
		}
	}
}

// The roles of this program when it starts itself.
const (
	roleKeeper  = "keep"
	roleFreezer = "freeze"
	roleWatcher = "watch"
)

// processName is the name under which this program starts itself in one of the roles.
const processName = "blockdev-snapshot"

// again is this program in a role. It is found by what runs, since the file may have been replaced or removed.
func again(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{processName, role}, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}
