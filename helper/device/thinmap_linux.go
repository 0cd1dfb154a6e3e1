package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Where a thin volume has no space it reads as zeros. Its mapping is in the metadata of its pool, of which the pool lets
// a snapshot be reserved, that the program thin_dump reads. The kernel reports no changes of a mapping, but it counts
// writes: as long as a volume that is read has as many as before the snapshot was reserved, and nothing of a hole is
// only in memory, the mapping is true.
//
// A target is written meanwhile, by this transfer alone, which has claimed it. What was unmapped when it was claimed reads
// as zeros until the transfer writes there: the pool zeroes new chunks, or findThin has refused it. Each range is scanned
// before it is written, by the one session that receives it, so a mapping taken at any time before is true for the scan.

const (
	// holesFrom is the number of bytes to be read from which on it pays to ask for a mapping.
	holesFrom = 64 << 20
	// holesTime is how long asking may take.
	holesTime = 20 * time.Second
)

// thinMapping is where a volume has space.
type thinMapping struct {
	volume volume
	writes writes // when it was asked for
	data   spans
}

// FindHoles makes ready for reading n bytes at off: it finds out where a thin volume has no space, which may take some
// seconds, the first time that it pays. Of a target, the range is the next one to be scanned and then written. What
// cannot be found out is read; the notice says why, where that can be changed.
func (o *Object) FindHoles(ctx context.Context, off, n int64) (notice string) {
	t := &o.thin
	if m := t.mapping.Load(); m != nil && o.write {
		m.data.fill(t.received.from, t.received.to)
	}
	t.received = span{off, off + n}
	if t.looked || n < holesFrom || o.info.Kind != Block || o.forced {
		return ""
	}
	t.looked = true
	self, _ := deviceNumber(o.info.ID)
	v, ok := host.thinVolume(self)
	if !ok || v.origin {
		return ""
	}
	if used, ok := v.mapped(); !ok || used > o.info.Size/10*9 {
		return "" // nothing to be gained
	}
	ctx, cancel := context.WithTimeout(ctx, holesTime)
	defer cancel()
	m, err := o.askMapping(ctx, v)
	switch {
	case errors.Is(err, errWritten) && o.write: // by another session of this transfer, so nothing that users should know
		return ""
	case err != nil:
		return fmt.Sprintf("%s: areas of this thin volume that have no space are read: %v", o.path, err)
	}
	t.mapping.Store(m)
	return ""
}

// deviceData is Data for a device. Of a target it knows nothing: see ScanData.
func (o *Object) deviceData(off, end int64) (start, stop int64) {
	m := o.thin.mapping.Load()
	if m == nil || o.write {
		return off, end
	}
	start, stop = m.data.next(off, end)
	if start == off {
		return start, stop
	}
	// What was written since may be in memory only, and counts when it is on the device. Of a range that is clean this
	// costs next to nothing.
	err := o.flush(off, start-off)
	if _, now, ok := host.counters(m.volume.self); err != nil || !ok || now != m.writes {
		o.thin.mapping.Store(nil)
		return off, end
	}
	return start, stop
}

// ScanData is Data for the scan of a target, of a range that FindHoles was told of and that was not written since.
func (o *Object) ScanData(off, end int64) (start, stop int64, err error) {
	if m := o.thin.mapping.Load(); m != nil && o.write && off >= o.thin.received.from && end <= o.thin.received.to {
		start, stop = m.data.next(off, end)
		return start, stop, nil
	}
	return o.Data(off, end)
}

// askMapping asks for the mapping of v, which o is.
func (o *Object) askMapping(ctx context.Context, v volume) (*thinMapping, error) {
	program, err := thinDumpPath()
	if err != nil {
		return nil, err
	}
	// What another program has written, and is only in memory, has no space yet.
	if err := withFD(o.f, func(fd uintptr) error { return unix.Fsync(int(fd)) }); err != nil {
		return nil, err
	}
	m := &thinMapping{volume: v}
	var ok bool
	if _, m.writes, ok = host.counters(v.self); !ok || !host.counting(v.self) {
		return nil, errors.New("the kernel does not count what is written to it")
	}
	before, ok := v.mapped()
	release, err := v.reserve(ctx)
	if err != nil {
		return nil, err
	}
	data, total, err := v.dump(ctx, program)
	after, ok2 := v.mapped()
	if err := errors.Join(err, release()); err != nil {
		return nil, err
	}
	// Other sessions may write their ranges of a target meanwhile, so it has as much as was dumped at some moment between.
	if !o.write {
		before = after
	}
	if !ok || !ok2 || total < min(before, after) || total > max(before, after) {
		return nil, errWritten
	}
	m.data = data
	return m, nil
}

// errWritten is for a mapping that is not the one that the kernel has.
var errWritten = errors.New("it is being written")

// thinDumpPath finds the program. That of the system comes first, since it runs as root.
func thinDumpPath() (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"} {
		path := filepath.Join(dir, "thin_dump")
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() {
			return path, nil
		}
	}
	path, err := exec.LookPath("thin_dump")
	if err != nil {
		return "", errors.New("the program thin_dump is not there: install thin-provisioning-tools")
	}
	return path, nil
}

// dump runs the program on the reserved snapshot.
func (v volume) dump(ctx context.Context, program string) (data spans, total int64, err error) {
	path, err := host.node(v.meta)
	if err != nil {
		return data, 0, err
	}
	if err := forgetPages(path); err != nil {
		return data, 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-m", "--dev-id", fmt.Sprint(v.id), path)
	cmd.Env = []string{"LC_ALL=C"}
	var said bytes.Buffer
	cmd.Stderr = &limited{w: &said, left: 1 << 10}
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return data, 0, err
	}
	if err := cmd.Start(); err != nil {
		return data, 0, err
	}
	data, total, err = thinDump(out, v.id, v.chunk)
	if err != nil {
		cancel() // it would wait for somebody to read on
	}
	if failed := cmd.Wait(); failed != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %s", failed, strings.TrimSpace(said.String()))
	}
	if err != nil {
		return data, 0, fmt.Errorf("thin_dump: %w", err)
	}
	return data, total, nil
}

// limited drops what is more than a few lines.
type limited struct {
	w    *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	l.w.Write(p[:n])
	return len(p), nil
}

// forgetPages makes the next reader of a device see what is on it: the pool writes its metadata past the page cache.
func forgetPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return withFD(f, func(fd uintptr) error { return unix.IoctlSetInt(int(fd), unix.BLKFLSBUF, 0) })
}

// node is the path of a device.
func (k kernel) node(n number) (string, error) {
	dir, err := k.dir(n)
	if err != nil {
		return "", err
	}
	path := filepath.Join("/dev", strings.ReplaceAll(filepath.Base(dir), "!", "/"))
	if real, ok := blockNumber(path); !ok || real != n {
		return "", fmt.Errorf("%s is not device %s", path, n)
	}
	return path, nil
}
