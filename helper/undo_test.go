//go:build unix

package helper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/recovery"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// crashAt is the environment variable with the number of the step at which a helper dies.
const crashAt = "BLOCKDEV_TEST_CRASH_AT"

// TestUndo_Helper is no test: it is the helper of the others, which dies at a step. What of the log is not known to be on
// the disk is lost with it, and all that was written to the target is not: the worst that a power cut can do.
func TestUndo_Helper(t *testing.T) {
	step, err := strconv.Atoi(os.Getenv(crashAt))
	if err != nil {
		return // nobody asked for it
	}
	steps := 0
	recovery.At = func(name string, l *recovery.Log) {
		if steps++; steps != step {
			return
		}
		fmt.Fprintf(os.Stderr, "crash at step %d: %s\n", step, name)
		if err := os.Truncate(l.Path(), l.Durable()); err != nil && !errors.Is(err, os.ErrNotExist) {
			fmt.Fprintln(os.Stderr, err)
		}
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	_ = Serve(context.Background(), stdio{os.Stdin, os.Stdout}, Policy{})
}

type stdio struct {
	io.Reader
	io.Writer
}

func (stdio) Close() error { return os.Stdin.Close() }

// crashing starts a helper that dies at a step. died tells, at the end, where.
func crashing(t *testing.T, step int) (c *client, died func() string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestUndo_Helper$")
	cmd.Env = append(os.Environ(), crashAt+"="+strconv.Itoa(step))
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	go func() { io.Copy(in, far); in.Close() }()
	copied := make(chan struct{})
	go func() { io.Copy(far, out); far.Close(); close(copied) }()
	c = &client{t: t, conn: near, r: wire.NewReader(near), w: wire.NewWriter(near), frames: make(chan wire.Frame, 1<<16)}
	if _, err := c.r.SkipTo(wire.Magic); err != nil {
		t.Fatal(err)
	}
	f, err := c.r.Next()
	if err != nil {
		t.Fatal(err)
	}
	f.Release()
	c.listen()
	if err := c.w.WriteMagic(); err != nil {
		t.Fatal(err)
	}
	c.send(Hello())
	return c, func() string {
		near.Close()
		<-copied
		_ = cmd.Wait()
		return strings.TrimSpace(said.String())
	}
}

// try makes requests until one fails.
func (c *client) try(req wire.Message) error {
	if err := c.w.Write(req); err != nil {
		return err
	}
	_, err := c.end()
	return err
}

// copyWithUndo copies source to path, with what is overwritten kept in dir.
func (c *client) copyWithUndo(path, dir string, source []byte) error {
	c.t.Helper()
	req := openWrite(path, int64(len(source)))
	req.Undo, req.Verify = dir, wire.VerifyWritten
	err := c.try(req)
	if err == nil {
		err = c.sends(source)
	}
	if err == nil {
		err = c.try(&wire.Close{Commit: true})
	}
	return err
}

// stride is how many steps lie between two that are tried: other sizes differ from equal ones in few.
func stride(name string) int {
	if name == "equal" {
		return 1
	}
	return 3
}

func undoOf(path, dir string) *wire.Undo {
	m := &wire.Undo{Dir: dir}
	m.Path = path
	return m
}

// holds fails when the file is not what it should be.
func holds(t *testing.T, when, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes of %d, equal up to %d, %v", when, len(got), len(want), equalUpTo(got, want), err)
	}
}

func equalUpTo(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// mixed is content of which every third MiB is zero, and every fourth as in another of another seed.
func mixed(size int, seed byte) []byte {
	b := make([]byte, size)
	for i := range b {
		switch mib := i >> 20; {
		case mib%3 == int(seed)%3:
		case mib%4 == 0:
			b[i] = byte(i >> 9)
		default:
			b[i] = byte(i>>7) + seed*byte(i>>12)
		}
	}
	return b
}

// An undo leads back from every content to every other, of any size.
func TestServe_Undo(t *testing.T) {
	for i, size := range edges.Sizes() {
		source := edges.Contents()[i%len(edges.Contents())].Make(size, 1)
		for _, target := range edges.Targets(source) {
			if target.Data == nil {
				continue
			}
			t.Run(strconv.Itoa(size)+"/"+target.Name, func(t *testing.T) {
				path, dir := file(t, "image", target.Data), t.TempDir()
				c := connect(t, Policy{})
				if err := c.copyWithUndo(path, dir, source); err != nil {
					t.Fatal(err)
				}
				holds(t, "after the copy", path, source)
				if !bytes.Equal(source, target.Data) {
					c.call(undoOf(path, dir), new(wire.Properties))
				} // else there is nothing to undo
				holds(t, "after the undo", path, target.Data)
				c.fails(wire.CodeNotFound, undoOf(path, dir))
				c.hangUp()
			})
		}
	}
}

// Wherever a copy dies, an undo leads back to the old content, and the same copy completes it, after which an undo
// leads back as well.
func TestUndo_CrashOfCopy(t *testing.T) {
	const size = 10<<20 + 700
	source := mixed(size, 2)
	for name, old := range map[string][]byte{"equal": mixed(size, 1), "smaller": mixed(size-3<<20, 1), "larger": mixed(size+3<<20, 1)} {
		for step := 1; ; step += stride(name) {
			path, dir := file(t, "image", old), t.TempDir()
			c, died := crashing(t, step)
			err := c.copyWithUndo(path, dir, source)
			where := died()
			if where == "" {
				if err != nil || step < 10 {
					t.Fatalf("%s: a copy of %d steps that does not die: %v", name, step, err)
				}
				t.Logf("%s: %d steps", name, step-1)
				break
			}
			where = name + ", " + where
			again := connect(t, Policy{})
			if step%2 == 0 {
				if err := again.copyWithUndo(path, dir, source); err != nil {
					t.Fatalf("%s: again: %v", where, err)
				}
				holds(t, where+", copied again", path, source)
			}
			for err = nil; err == nil; { // a copy that died behind its end has one of its own
				err = again.try(undoOf(path, dir))
			}
			if !errors.Is(err, wire.CodeNotFound) {
				t.Errorf("%s: undo: %v", where, err)
			}
			again.hangUp()
			holds(t, where+", undone", path, old)
		}
	}
}

// Wherever an undo dies, the same undo completes it; a copy does not begin before.
func TestUndo_CrashOfUndo(t *testing.T) {
	const size = 10<<20 + 700
	source := mixed(size, 2)
	for name, old := range map[string][]byte{"equal": mixed(size, 1), "smaller": mixed(size-3<<20, 1), "larger": mixed(size+3<<20, 1)} {
		for step := 1; ; step += stride(name) {
			path, dir := file(t, "image", old), t.TempDir()
			first := connect(t, Policy{})
			if err := first.copyWithUndo(path, dir, source); err != nil {
				t.Fatal(err)
			}
			first.hangUp()
			c, died := crashing(t, step)
			err := c.try(undoOf(path, dir))
			where := died()
			if where == "" {
				if err != nil || step < 5 {
					t.Fatalf("%s: an undo of %d steps that does not die: %v", name, step, err)
				}
				t.Logf("%s: %d steps", name, step-1)
				break
			}
			where = name + ", " + where
			again := connect(t, Policy{})
			if strings.Contains(where, "restored") {
				if err := again.copyWithUndo(path, dir, source); !errors.Is(err, wire.CodeRefused) {
					t.Errorf("%s: a copy: %v", where, err)
				}
			}
			if err := again.try(undoOf(path, dir)); err != nil && !errors.Is(err, wire.CodeNotFound) {
				t.Errorf("%s: again: %v", where, err)
			}
			again.hangUp()
			holds(t, where+", undone", path, old)
		}
	}
}

// An undo is refused when somebody else has written, unless it is forced; when it is another target; and it asks the
// policy about the directory.
func TestServe_UndoRefused(t *testing.T) {
	const size = 3 << 20
	old, source := mixed(size, 1), mixed(size, 2)
	path, dir := file(t, "image", old), t.TempDir()
	c := connect(t, Policy{})
	if err := c.copyWithUndo(path, dir, source); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{5, size - 1, 1<<20 + 4096} { // kept or not
		changed := bytes.Clone(source)
		changed[at] ^= 1
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		c.fails(wire.CodeRefused, undoOf(path, dir))
		holds(t, "refused", path, changed)
	}
	if err := os.WriteFile(path, source[:size-1], 0o600); err != nil {
		t.Fatal(err)
	}
	c.fails(wire.CodeRefused, undoOf(path, dir))
	if err := os.WriteFile(path, source, 0o600); err != nil {
		t.Fatal(err)
	}
	check := undoOf(path, dir)
	check.Check = true
	c.call(check, new(wire.Properties))
	holds(t, "checked", path, source)
	c.fails(wire.CodeNotFound, undoOf(file(t, "image", source), dir))
	c.fails(wire.CodeRefused, undoOf(path, filepath.Join(dir, "none")))
	changed := bytes.Clone(source)
	changed[5] ^= 1
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	force := undoOf(path, dir)
	force.Force = true
	c.call(force, new(wire.Properties))
	c.hangUp()

	c = connect(t, Policy{Allow: []string{path}})
	c.fails(wire.CodeRefused, undoOf(path, dir))
	req := openWrite(path, size)
	req.Undo = dir
	c.fails(wire.CodeRefused, req)
	req.Undo = filepath.Join(filepath.Dir(path), "none")
	c.fails(wire.CodeRefused, req)
	c.hangUp()
}

// A log that finds no space ends the copy before what is not kept is overwritten; with space the same command goes on.
func TestServe_UndoNoSpace(t *testing.T) {
	const size = 24 << 20
	old, source := make([]byte, size), make([]byte, size)
	for i := range old {
		old[i], source[i] = byte(i*i>>11)+byte(i*7), byte(i)
	}
	path, dir := file(t, "image", old), smallDisk(t, 1<<20)
	c := connect(t, Policy{})
	err := c.copyWithUndo(path, dir, source)
	if !errors.Is(err, wire.CodeNoSpace) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("%v", err)
	}
	c.try(&wire.Close{})
	if err := c.try(undoOf(path, dir)); err != nil && !errors.Is(err, wire.CodeNotFound) {
		t.Errorf("undo: %v", err)
	}
	c.hangUp()
	holds(t, "undone", path, old)
}

// An undo after places of the source that cannot be read, where the target keeps what it has, is an undo like any other.
func TestServe_UndoGaps(t *testing.T) {
	const size = 3 << 20
	old, source := mixed(size, 3), mixed(size, 2)
	path, dir := file(t, "image", old), t.TempDir()
	c := connect(t, Policy{})
	req := openWrite(path, size)
	req.Undo, req.Verify = dir, wire.VerifyFull
	c.call(req, new(wire.Opened))
	src, bad := memdev.FromBytes(source), errors.New("bad sector")
	src.Inject(memdev.Fault{Op: memdev.Read, Off: 1<<20 + 4096, Err: bad})
	r := rangeOf(size)
	c.send(wire.NewReceive(r, delta.Window))
	salvage := delta.NewSalvage(src, size, true, func(err error) bool { return errors.Is(err, bad) })
	if _, err := delta.Send(t.Context(), c, salvage, r, delta.Window, compress.NewEncoder(wire.CompressAuto)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.end(); err != nil {
		t.Fatal(err)
	}
	c.call(&wire.Close{Commit: true}, nil)
	want := bytes.Clone(source)
	copy(want[1<<20+4096:][:4096], old[1<<20+4096:])
	holds(t, "after the copy", path, want)
	c.call(undoOf(path, dir), new(wire.Properties))
	c.hangUp()
	holds(t, "undone", path, old)
}

// A copy that goes on after one that was interrupted says so, unless somebody else has written since: then it says that,
// and an undo leads to what that was. A copy that changes nothing leaves no log.
func TestServe_UndoForeign(t *testing.T) {
	const size = 2 << 20
	old, source := mixed(size, 1), mixed(size, 2)
	path, dir := file(t, "image", old), t.TempDir()
	for i, write := range []func(){func() {}, func() { os.WriteFile(path, mixed(size, 3), 0o600) }} {
		c := connect(t, Policy{})
		req := openWrite(path, size)
		req.Undo = dir
		c.call(req, new(wire.Opened))
		if err := c.sends(source); err != nil {
			t.Fatal(err)
		}
		c.hangUp()
		write()
		c = connect(t, Policy{})
		c.send(req)
		all, err := c.end()
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, f := range all {
			if f.Type == wire.TypeNotice {
				said += string(f.Payload)
			}
		}
		if i == 0 != strings.Contains(said, "goes on with the log") || i == 1 != strings.Contains(said, "somebody else has written") {
			t.Errorf("%d: %s", i, said)
		}
		if err := c.sends(source); err != nil {
			t.Fatal(err)
		}
		c.call(&wire.Close{Commit: true}, nil)
		if err := c.copyWithUndo(path, dir, source); err != nil {
			t.Fatal(err)
		}
		c.call(undoOf(path, dir), new(wire.Properties))
		c.hangUp()
		holds(t, "undone", path, [][]byte{old, mixed(size, 3)}[i])
	}
}
