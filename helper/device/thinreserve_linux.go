package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A pool has one reserved snapshot of its metadata at most, for whoever asks first, and keeps it until somebody releases
// it, whoever that is, also over a restart. It makes the metadata grow, so it is reserved for the time of a dump. Others'
// are never released: in a file for each pool stands which one is ours, and its lock is held as long as that is in use.
// What a killed helper has left is released by the next one.

// markers is the directory of those files. It is gone after a restart, when a snapshot of ours would be one of others.
func (k kernel) markers() string { return filepath.Join(k.run, "blockdev-helper") }

// marker is what tells that the snapshot of a pool is ours.
type marker struct {
	f          *os.File
	name, uuid string // of the pool; it may have no UUID
}

// reserve reserves a snapshot of the metadata of v's pool. The caller must release it.
func (v volume) reserve(ctx context.Context) (release func() error, err error) {
	m, err := v.lock(ctx)
	if err != nil {
		return nil, err
	}
	if err := v.reserveLocked(m); err != nil {
		m.f.Close()
		return nil, err
	}
	return func() error {
		defer m.f.Close()
		return v.release(m)
	}, nil
}

func (v volume) reserveLocked(m *marker) error {
	s, ok := v.state()
	if ok && s.held != "-" && m.is(s.held) {
		if err := v.release(m); err != nil {
			return err
		}
		s, ok = v.state()
	}
	switch {
	case !ok || !s.healthy:
		return errors.New("its pool is read-only or needs to be checked")
	case s.held != "-":
		return heldByOther(m.name)
	}
	if err := host.dmMessage(v.pool, "reserve_metadata_snap"); errors.Is(err, unix.EBUSY) {
		return heldByOther(m.name)
	} else if err != nil {
		return fmt.Errorf("its pool reserves no snapshot of its metadata: %w", err)
	}
	// Killed here, we leave one that nobody knows to be ours. That keeps all from using the mapping, no more.
	s, ok = v.state()
	err := errors.New("its pool does not say what it has reserved")
	if ok && s.held != "-" {
		err = m.set(s.held)
	}
	if err != nil {
		return errors.Join(err, v.release(m))
	}
	return nil
}

func heldByOther(pool string) error {
	return fmt.Errorf("a snapshot of its pool's metadata is reserved already, by another program or by one that was killed; if nobody uses it, release it: dmsetup message %s 0 release_metadata_snap", pool)
}

func (v volume) release(m *marker) error {
	if err := host.dmMessage(v.pool, "release_metadata_snap"); err != nil {
		return fmt.Errorf("releasing the snapshot of its pool's metadata: %w", err)
	}
	return m.f.Truncate(0)
}

// lock opens the marker of v's pool and waits until no other helper uses it.
func (v volume) lock(ctx context.Context) (*marker, error) {
	dir := host.markers()
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "pool-"+v.pool.String()), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := withFD(f, func(fd uintptr) error { return unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB) })
		if err == nil {
			pool, _ := host.dir(v.pool)
			return &marker{f, text(pool, "dm/name"), text(pool, "dm/uuid")}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, errors.New("another copy takes too long to read its pool's metadata")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// line names a snapshot by its pool and its root.
func (m *marker) line(root string) string { return m.name + " " + m.uuid + " " + root + "\n" }

// is tells whether the snapshot with that root was left by a helper.
func (m *marker) is(root string) bool {
	line, err := io.ReadAll(io.NewSectionReader(m.f, 0, 4096))
	return err == nil && string(line) == m.line(root)
}

func (m *marker) set(root string) error {
	if err := m.f.Truncate(0); err != nil {
		return err
	}
	_, err := m.f.WriteAt([]byte(m.line(root)), 0)
	return err
}
