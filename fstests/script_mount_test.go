package fstests

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

func init() {
	commands["fusemount"] = fusemount
	commands["attach"] = attach
	commands["listening"] = listening
	commands["pages-same"] = pagesSame
	commands["turns-max"] = turnsMax
}

// fusemount DIR REMOTE [FLAG...]: mounts a remote with rclone-blockdev until the script ends, or until the same DIR
// is mounted again.
func fusemount(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 2, -1, "fusemount dir remote [flag...]")
	require.Need(sceneOf(ts).t, require.Fuse)
	dir := ts.MkAbs(args[0])
	if _, err := os.Stat(dir); err == nil {
		unmount(ts, dir)
	}
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Defer(func() { unmount(ts, dir) })
	ts.Check(ts.Exec("rclone-blockdev", append([]string{"mount", args[1], dir, "--daemon"}, args[2:]...)...))
}

// unmount ends a mount of fusemount, if it is still there, and waits for its process. The mount is taken out of the
// tree even when something still uses it, since the script's folder is about to be removed.
func unmount(ts *testscript.TestScript, dir string) {
	processes := mountProcesses(dir)
	if len(processes) == 0 {
		return
	}
	ts.Check(ts.Exec("fusermount3", "-u", "-z", dir))
	for end := time.Now().Add(20 * time.Second); len(mountProcesses(dir)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			for _, p := range processes {
				_ = p.Kill() // it may end just now
			}
			ts.Fatalf("the mount of %s does not end", dir)
		}
	}
}

// mountProcesses are those of rclone-blockdev that serve dir: a mount in the background has no other name.
func mountProcesses(dir string) (found []*os.Process) {
	for pid, args := range harness.Processes() {
		if len(args) > 1 && args[1] == "mount" && slices.Contains(args, dir) {
			if p, err := os.FindProcess(pid); err == nil {
				found = append(found, p)
			}
		}
	}
	return found
}

// attach NAME FILE [OPTION...]: makes a loop device over a file, until the script ends, and sets $NAME to its path.
func attach(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 2, -1, "attach name file [option...]")
	t := sceneOf(ts).t
	device := harness.LoopOn(t, ts.MkAbs(args[1]), args[2:]...)
	ts.Defer(func() { device.Detach(t) }) // before a mount below the file ends
	ts.Setenv(args[0], device.Path)
}

// pages-same A B N SEED: N pages of 4 KiB at random places are equal in A and B; both are opened once.
func pagesSame(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 4, 4, "pages-same a b n seed")
	a, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer a.Close()
	b, err := os.Open(ts.MkAbs(args[1]))
	ts.Check(err)
	defer b.Close()
	length, err := b.Seek(0, io.SeekEnd)
	ts.Check(err)
	random := rand.New(rand.NewPCG(uint64(size(ts, args[3])), 0))
	for range size(ts, args[2]) {
		off := random.Int64N(length/page) * page
		got, want := make([]byte, page), make([]byte, page)
		_, err := a.ReadAt(got, off)
		ts.Check(err)
		_, err = b.ReadAt(want, off)
		ts.Check(err)
		if !bytes.Equal(got, want) {
			ts.Fatalf("the pages at %d differ", off)
		}
	}
}

// page is the unit of random reads, in bytes.
const page = 4 << 10

// listening PORT: waits until somebody listens on that port of 127.0.0.1, as a program in the background will.
func listening(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 1, 1, "listening port")
	addr := net.JoinHostPort("127.0.0.1", args[0])
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			ts.Check(c.Close())
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("nobody listens: %v", err)
		}
	}
}

// turns-max TERM...: the client spoke at most that often after the host did.
func turnsMax(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 1, -1, "turns-max term...")
	relay, limit := relayOf(ts), sum(ts, args)
	ts.Logf("%d turns, limit %d, %d bytes up, %d down", relay.Turns(), limit, relay.Up(), relay.Down())
	if relay.Turns() > limit {
		ts.Fatalf("%d turns, more than %d", relay.Turns(), limit)
	}
}
