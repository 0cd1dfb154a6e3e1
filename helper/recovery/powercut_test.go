package recovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
)

// errCut is a power cut, as a panic.
var errCut = errors.New("power cut")

// machine is a host whose power is cut at a step: a disk that may lose or keep each sector since its last sync, and logs
// that may lose or keep what was appended since theirs.
type machine struct {
	rng         *rand.Rand
	now, stable []byte
	steps, last int              // taken; the one that is the last, 0 for none
	log         *Log             // the newest
	durable     map[string]int64 // bytes of each log that are on the disk, whoever has synced them
	where       string           // of the last step
	logs        *shelf           // where they are, nil for a disk that does not fail
	token       Token            // of all copies, zero for none
}

func (m *machine) step(name string) {
	if m.steps++; m.steps == m.last {
		m.where = name
		panic(errCut)
	}
}

func (m *machine) Size() int64 { return int64(len(m.now)) }

func (m *machine) ReadAt(p []byte, off int64) (int, error) { return copy(p, m.now[off:]), nil }

func (m *machine) Data(off, end int64) (start, stop int64, err error) { return off, end, nil }

func (m *machine) WriteAt(p []byte, off int64) (int, error) {
	m.step("before a write")
	copy(m.now[off:], p)
	m.step("after a write")
	return len(p), nil
}

func (m *machine) Zero(off, n int64) error {
	_, err := m.WriteAt(make([]byte, n), off)
	return err
}

func (m *machine) Sync() error {
	m.step("before a sync")
	copy(m.stable, m.now)
	m.step("after a sync")
	return nil
}

// run does something up to step number last, and tells whether the power was cut. Then only what is durable is left, and
// by chance what is not.
func (m *machine) run(t *testing.T, last int, do func() error) (cut bool) {
	t.Helper()
	m.steps, m.last, m.log = 0, last, nil
	At = func(name string, l *Log) {
		m.log = l
		m.durable[l.path] = max(m.durable[l.path], l.durable)
		m.step(name)
	}
	defer func() {
		At = func(string, *Log) {}
		r := recover()
		if r == nil {
			return
		}
		if r != errCut {
			panic(r)
		}
		cut = true
		for off := 0; off < len(m.now); off += sectorSize {
			end := min(off+sectorSize, len(m.now))
			if m.rng.IntN(2) == 0 {
				copy(m.now[off:end], m.stable[off:end])
			}
		}
		copy(m.stable, m.now)
		m.tear(t)
	}()
	if err := do(); err != nil {
		t.Fatalf("step %d: %v", last, err)
	}
	return false
}

// tear loses a part of what was appended to the log and not synced; what is left may be garbage.
func (m *machine) tear(t *testing.T) {
	t.Helper()
	if m.logs != nil {
		m.logs.cut(t)
		return
	}
	if m.log == nil {
		return
	}
	data, err := os.ReadFile(m.log.path)
	if err != nil {
		return // removed
	}
	m.log.close()
	durable := min(int(m.durable[m.log.path]), len(data))
	data = data[:durable+m.rng.IntN(len(data)-durable+1)]
	for i := durable; i < len(data); i++ {
		if m.rng.IntN(3) == 0 && i/512%2 == 0 {
			data[i] = 0
		}
	}
	if err := os.WriteFile(m.log.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	m.durable[m.log.path] = int64(len(data))
}

const diskSize = 200<<10 + 512

// version is content of which some pages are the same in all versions.
func version(n byte) []byte {
	b := make([]byte, diskSize)
	for i := range b {
		switch page := i / 4096; {
		case page%5 == 0:
			b[i] = byte(page)
		case page%7 == int(n):
		default:
			b[i] = byte(i>>8) ^ n*37
		}
	}
	return b
}

// writes turns what tgt has into next, in writes of odd places and lengths.
func (m *machine) writes(tgt delta.Target, next []byte) error {
	for off := 0; off < diskSize; off += 3 << 10 {
		end := min(off+3<<10, diskSize)
		if bytes.Equal(m.now[off:end], next[off:end]) {
			continue
		}
		var err error
		if block.IsZero(next[off:end]) {
			err = tgt.Zero(int64(off), int64(end-off))
		} else {
			_, err = tgt.WriteAt(next[off:end], int64(off))
		}
		if st, ok := tgt.(delta.Settler); ok && err == nil && off/(3<<10)%8 == 7 { // as between extents: of whole pages
			err = st.Settled(0, 0)
		}
		if err != nil {
			return err
		}
	}
	return tgt.Sync()
}

func wholeRange() block.Range { return block.Range{Length: diskSize, BlockSize: 4096} }

func wholeRoot(data []byte) block.Digest {
	root, _ := delta.Root(context.Background(), memdev.FromBytes(data), wholeRange(), func(int64) error { return nil })
	return root
}

func subjectOfDisk() Subject { return Subject{Path: "/dev/x", Size: diskSize} }

func (m *machine) copyWithUndo(dir string, next []byte) error {
	u, _, err := Begin(context.Background(), dir, subjectOfDisk(), m.token, m)
	if err != nil {
		return err
	}
	defer u.Close()
	if err := m.writes(u.Keep(m), next); err != nil {
		return err
	}
	if err := u.Complete(wholeRange(), wholeRoot(next)); err != nil {
		return err
	}
	return u.End(diskSize)
}

// undo brings back the newest copy; it is nil when there is none.
func (m *machine) undo(dir string) error {
	r, err := Find(dir, subjectOfDisk(), func(int64) error { return nil })
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	for _, do := range []func() error{
		func() error { return r.Check(context.Background(), m) }, r.Begin, func() error { return r.Write(context.Background(), m) }, r.End,
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

func newMachine(seed uint64) *machine {
	old := version(1)
	return &machine{rng: rand.New(rand.NewPCG(seed, 1)), now: old, stable: slices.Clone(old), durable: map[string]int64{}}
}

// small makes groups of a few writes, so that there are many.
func small(t *testing.T) {
	before := groupSize
	groupSize = 32 << 10
	t.Cleanup(func() { groupSize = before })
}

// Whenever the power is cut in a copy, an undo leads back, also when its own power is cut; so it does after the copy was
// completed by another run, of a source that has changed.
func TestUndo_PowerCut(t *testing.T) {
	small(t)
	old := version(1)
	steps := 0
	for seed := range uint64(1) {
		for step := 1; ; step++ {
			m, dir := newMachine(seed*1000+uint64(step)), t.TempDir()
			if !m.run(t, step, func() error { return m.copyWithUndo(dir, version(2)) }) {
				steps = step - 1
				break
			}
			where := m.where
			if step%2 == 0 && m.run(t, 1+m.rng.IntN(80), func() error { return m.copyWithUndo(dir, version(3)) }) {
				where += ", again " + m.where
			}
			for range 3 {
				if !m.run(t, 1+m.rng.IntN(60), func() error { return m.undo(dir) }) {
					break
				}
				where += ", undo " + m.where
			}
			m.run(t, 0, func() error { return errors.Join(m.undo(dir), m.undo(dir)) }) // of a second copy
			if !bytes.Equal(m.now, old) {
				t.Fatalf("seed %d, step %d, %s: not what it was, from byte %d", seed, step, where, firstDifferent(m.now, old))
			}
		}
	}
	if steps < 40 {
		t.Errorf("%d steps", steps)
	}
	t.Logf("%d steps", steps)
}

func firstDifferent(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

func (m *machine) copyBySpool(dir string, token Token, next []byte) error {
	s, err := BeginSpool(dir, subjectOfDisk(), token, true)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Begin(wholeRange()); err != nil {
		return err
	}
	if err := m.writes(s.Target(m).settled(), next); err != nil {
		return err
	}
	if err := s.Complete(wholeRange(), wholeRoot(next)); err != nil {
		return err
	}
	if err := s.Commit(context.Background(), m, diskSize, diskSize, Commit{Size: -1}); err != nil {
		return err
	}
	return m.apply(s)
}

func (t *Spooled) settled() delta.Target { return t }

func (m *machine) apply(s *Spool) error {
	check := func(p []byte, off int64) error {
		if !bytes.Equal(m.stable[off:][:len(p)], p) {
			return fmt.Errorf("byte %d is not durable", off)
		}
		return nil
	}
	if err := s.Apply(context.Background(), m, check); err != nil {
		return err
	}
	return s.Remove()
}

// recoverSpool ends what is left, and says what the content is.
func (m *machine) recoverSpool(dir string) (state string, err error) {
	s, err := OpenSpool(dir, subjectOfDisk())
	if errors.Is(err, ErrNone) {
		return "none", nil
	}
	if err != nil {
		return "", err
	}
	defer s.Close()
	if !s.Committed() {
		return "old", s.Remove()
	}
	if err := s.Fits(context.Background(), m, diskSize); err != nil {
		return "", err
	}
	return "new", m.apply(s)
}

// Whenever the power is cut in a copy by a spool, also when it is cut again in the recovery, the content is old or new,
// and as the recovery says.
func TestSpool_PowerCut(t *testing.T) {
	small(t)
	old, next := version(1), version(2)
	states := map[string]int{}
	for seed := range uint64(1) {
		for step := 1; ; step++ {
			m, dir := newMachine(seed*1000+uint64(step)), t.TempDir()
			if !m.run(t, step, func() error { return m.copyBySpool(dir, Token{1}, next) }) {
				break
			}
			where, state := m.where, ""
			recovery := func() (err error) { state, err = m.recoverSpool(dir); return err }
			for range 3 {
				if !m.run(t, 1+m.rng.IntN(150), recovery) {
					break
				}
				where, state = where+", recovery "+m.where, ""
			}
			if state == "" {
				m.run(t, 0, recovery)
			}
			states[state]++
			switch isOld, isNew := bytes.Equal(m.now, old), bytes.Equal(m.now, next); {
			case state == "old" && isOld, state == "new" && isNew, state == "none" && (isOld || isNew):
			default:
				t.Fatalf("seed %d, step %d, %s: %s, but from byte %d not the old and from %d not the new", seed, step, where, state, firstDifferent(m.now, old), firstDifferent(m.now, next))
			}
			if left, _ := filepath.Glob(dir + "/*"); state != "none" && len(left) > 0 {
				t.Errorf("%v is left", left)
			}
		}
	}
	if states["old"] < 5 || states["new"] < 20 || states["none"] == 0 {
		t.Errorf("%v", states)
	}
	t.Logf("%v", states)
}
