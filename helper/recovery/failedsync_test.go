package recovery

import (
	"bytes"
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
)

// shelf is a disk with logs, as Linux has it: what is written lies in memory until a sync, and is clean after a sync that
// has failed, so that no later one writes it. Of the files themselves it holds what memory has.
type shelf struct {
	disk  map[string][]byte // what is on the disk
	dirty map[string][]span // what is not
	syncs int               // done
	fails int               // the one that fails, 0 for none
}

// shelved puts all logs on a shelf.
func shelved(t *testing.T) *shelf {
	s := &shelf{disk: map[string][]byte{}, dirty: map[string][]span{}}
	wrap = func(path string, f *os.File) file { return &shelvedFile{f, path, s} }
	t.Cleanup(func() { wrap = func(_ string, f *os.File) file { return f } })
	return s
}

type shelvedFile struct {
	*os.File
	path string
	s    *shelf
}

func (f *shelvedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.s.dirty[f.path] = append(f.s.dirty[f.path], span{off, off + int64(n)})
	return n, err
}

func (f *shelvedFile) Truncate(size int64) error {
	f.s.disk[f.path] = f.s.disk[f.path][:min(int64(len(f.s.disk[f.path])), size)]
	return f.File.Truncate(size)
}

func (f *shelvedFile) Sync() error {
	dirty := f.s.dirty[f.path]
	delete(f.s.dirty, f.path)
	if f.s.syncs++; f.s.syncs == f.s.fails {
		return syscall.EIO
	}
	for _, d := range dirty {
		if missing := d.to - int64(len(f.s.disk[f.path])); missing > 0 {
			f.s.disk[f.path] = append(f.s.disk[f.path], make([]byte, missing)...)
		}
		if _, err := f.File.ReadAt(f.s.disk[f.path][d.from:d.to], d.from); err != nil {
			return err
		}
	}
	return nil
}

// cut leaves of the logs what the disk has.
func (s *shelf) cut(t *testing.T) {
	t.Helper()
	for path, data := range s.disk {
		if _, err := os.Lstat(path); err != nil {
			continue // removed
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clear(s.dirty)
}

// failing is a machine on whose logs, in a directory of their own, that sync fails. step makes its moments others.
func failing(t *testing.T, fails, step int) (*machine, string) {
	s := shelved(t)
	s.fails = fails
	m := newMachine(uint64(fails*1000 + step))
	m.logs = s
	return m, t.TempDir()
}

// What a sync of the log could not write is in memory only, for the next copy or undo to read, and nothing tells them. When
// the power is cut in one of those, an undo leads back all the same.
func TestUndo_FailedSync(t *testing.T) {
	small(t)
	old := version(1)
	cuts := 0
	for fails := 1; ; fails++ {
		ended := false
		for step := 2; !ended; step += 3 {
			m, dir := failing(t, fails, step)
			if step%4 < 2 { // the next copy is the same transfer, which does not look at the target
				m.token = Token{1}
			}
			err := m.copyWithUndo(dir, version(2))
			if err == nil {
				if cuts < 30 {
					t.Errorf("%d power cuts", cuts)
				}
				t.Logf("%d syncs, %d power cuts", fails-1, cuts)
				return
			}
			if !errors.Is(err, ErrIO) {
				t.Fatalf("sync %d: %v", fails, err)
			}
			next := func() error { return m.copyWithUndo(dir, version(3)) }
			if step%2 == 0 {
				next = func() error { return m.undo(dir) }
			}
			if ended = !m.run(t, step, next); !ended {
				cuts++
			}
			m.run(t, 0, func() error { return errors.Join(m.undo(dir), m.undo(dir)) })
			if !bytes.Equal(m.now, old) {
				t.Fatalf("sync %d, step %d, %s: not what it was, from byte %d", fails, step, m.where, firstDifferent(m.now, old))
			}
		}
	}
}

// A spool whose last sync has failed is committed in memory alone: who applies it has it on the disk before.
func TestSpool_FailedSync(t *testing.T) {
	small(t)
	old, next := version(1), version(2)
	token := Token{1}
	states := map[string]int{}
	for fails := 1; ; fails++ {
		ended := false
		for step := 2; !ended; step += 7 {
			m, dir := failing(t, fails, step)
			err := m.copyBySpool(dir, token, next)
			if err == nil {
				if states["new"] < 20 {
					t.Errorf("%v", states)
				}
				t.Logf("%d syncs, %v", fails-1, states)
				return
			}
			if !errors.Is(err, ErrIO) {
				t.Fatalf("sync %d: %v", fails, err)
			}
			again := func() error { return m.goOn(dir, token, next) }
			if step%2 == 0 {
				again = func() error { _, err := m.recoverSpool(dir); return err }
			}
			ended = !m.run(t, step, again)
			state := ""
			m.run(t, 0, func() (err error) { state, err = m.recoverSpool(dir); return err })
			states[state]++
			switch isOld, isNew := bytes.Equal(m.now, old), bytes.Equal(m.now, next); {
			case state == "old" && isOld, state == "new" && isNew, state == "none" && (isOld || isNew):
			default:
				t.Fatalf("sync %d, step %d, %s: %s, and neither", fails, step, m.where, state)
			}
		}
	}
}

// goOn is what the same transfer does after it has lost its session: it applies what it has committed, and else begins anew.
func (m *machine) goOn(dir string, token Token, next []byte) error {
	s, err := BeginSpool(dir, subjectOfDisk(), token, true)
	if err != nil {
		return err
	}
	defer s.Close()
	if s.Committed() {
		if err := s.Fits(context.Background(), m, diskSize); err != nil {
			return err
		}
		return m.apply(s)
	}
	return m.copyBySpool(dir, token, next)
}

// After a sync has failed, none of the same log succeeds.
func TestLog_SyncStaysFailed(t *testing.T) {
	s := shelved(t)
	m, dir := newMachine(1), t.TempDir()
	u, _, err := Begin(t.Context(), dir, subjectOfDisk(), Token{1}, m)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	s.fails = s.syncs + 1
	for range 3 {
		if err := u.Complete(wholeRange(), wholeRoot(m.now)); !errors.Is(err, ErrIO) {
			t.Errorf("%v", err)
		}
	}
}
