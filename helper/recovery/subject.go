package recovery

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// How the names of logs end.
const (
	undoSuffix  = ".undo"
	spoolSuffix = ".spool"
)

// fileName is the name of a log that begins now: in the order of time for one
// target.
func fileName(s *Subject, suffix string) string {
	return filePrefix(s) + s.Begun.UTC().Format("20060102T150405.000000000") + suffix
}

// filePrefix is how the names of all logs of a target with this path begin.
func filePrefix(s *Subject) string {
	base := strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || r == filepath.Separator {
			return '_'
		}
		return r
	}, filepath.Base(s.Path))
	sum := sha256.Sum256([]byte(s.Path))
	return fmt.Sprintf("%.100s-%s-", base, hex.EncodeToString(sum[:4]))
}

// decodeSubject is the other end of appendSubject.
func decodeSubject(r *record) (*Subject, error) {
	b, short := r.payload, false
	take := func(n int) []byte {
		if len(b) < n {
			b, short = nil, true
			return make([]byte, n)
		}
		head := b[:n]
		b = b[n:]
		return head
	}
	str := func() string { return string(take(int(binary.BigEndian.Uint16(take(2))))) }
	if v := binary.BigEndian.Uint16(take(2)); v != Version && !short {
		return nil, fmt.Errorf("the log has version %d of the format, this program knows %d", v, Version)
	}
	s := &Subject{Size: r.n, Begun: time.Unix(0, int64(binary.BigEndian.Uint64(take(8)))), File: take(1)[0] == 1, Path: str()}
	for range binary.BigEndian.Uint16(take(2)) {
		if short {
			break
		}
		s.IDs = append(s.IDs, str())
	}
	if short || len(b) > 0 {
		return nil, ErrDamaged
	}
	return s, nil
}

// is tells whether both are one target: by their identities where both have any,
// since paths of devices change, else by path.
func (s *Subject) is(o *Subject) bool {
	if s.File != o.File {
		return false
	}
	if len(s.IDs) > 0 && len(o.IDs) > 0 {
		return slices.Equal(s.IDs, o.IDs)
	}
	return s.Path == o.Path
}

// state is how far the transfer of a log is.
type state uint8

const (
	stateOpen      state = iota // begun, or interrupted
	stateEnded                  // complete
	stateUndoing                // brought back in part
	stateCommitted              // a spool that is to be applied
)

// found is a log in a directory, read to its end.
type found struct {
	log     *Log
	subject *Subject
	state   state
	size    int64 // of the target at the end, when ended; what was compared, when committed
	kept    pages
	torn    bool
	skipped []string // notices: other logs that cannot be read

	token  Token  // of a spool
	commit Commit // of a committed spool
}

// follow reads the records that others have appended.
func (f *found) follow(each func(*record) error) error {
	var r record
	for {
		err := f.log.next(&r)
		switch {
		case err == io.EOF:
			f.torn = false
			return nil
		case err == errTorn:
			f.torn = true
			return nil
		case err != nil:
			return err
		}
		if err := f.plausible(&r); err != nil {
			return err
		}
		switch r.kind {
		case kindBegin:
			if f.subject != nil {
				break
			}
			if f.subject, err = decodeSubject(&r); err != nil {
				return fmt.Errorf("%s: %w", f.log.path, err)
			}
		case kindOld:
			f.kept.add(r.span())
		case kindEnd:
			f.state, f.size = stateEnded, r.n
		case kindUndoing:
			f.state = stateUndoing
		case kindTransfer:
			copy(f.token[:], r.payload)
		case kindCommit:
			if len(r.payload) != 16 {
				return fmt.Errorf("%s: %w", f.log.path, ErrDamaged)
			}
			num := binary.BigEndian.Uint64
			f.state, f.size, f.commit = stateCommitted, r.n, Commit{int64(num(r.payload)), int64(num(r.payload[8:]))}
		}
		if each != nil {
			if err := each(&r); err != nil {
				return err
			}
		}
	}
}

// plausible refuses a record that no program has written: what it says of its length
// is not to cost more than it is worth.
func (f *found) plausible(r *record) error {
	ok := true
	switch r.kind {
	case kindOld:
		ok = r.n > 0 && r.n <= block.ExtentSize && f.subject != nil && r.off+r.n <= f.subject.Size
	case kindRewritten:
		ok = f.kept.all(r.span())
	case kindNew:
		ok = r.n > 0 && r.n <= block.ExtentSize
	case kindTransfer:
		ok = len(r.payload) == len(f.token)
	}
	if !ok {
		return fmt.Errorf("%s: %w: its record of bytes %d to %d has no meaning", f.log.path, ErrDamaged, r.off, r.off+r.n)
	}
	return nil
}

// readSubject reads what a log is about, and no more.
func readSubject(path string) (*Subject, error) {
	f, err := openOwn(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	l := &Log{f: f, path: path}
	defer l.close()
	var r record
	if _, _, err := l.readAt(0, &r); err != nil || r.kind != kindBegin {
		return nil, ErrNone // nothing was written after it, or it is no log
	}
	return decodeSubject(&r)
}

// look finds the newest log of s in dir with such a name, "" for none. skipped are
// others there that cannot be read: they cannot be of s, whose logs would have another
// name.
func look(dir, suffix string, s *Subject) (path string, skipped []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", nil, err
	}
	best := (*Subject)(nil)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) || !e.Type().IsRegular() {
			continue
		}
		p := filepath.Join(dir, e.Name())
		other, err := readSubject(p)
		switch {
		case errors.Is(err, ErrNone), errors.Is(err, os.ErrNotExist):
		case err != nil && strings.HasPrefix(e.Name(), filePrefix(s)):
			return "", nil, fmt.Errorf("%s: %w", p, err)
		case err != nil:
			skipped = append(skipped, fmt.Sprintf("%s: is no log that can be read, so it is left alone: %v", p, err))
		case s.is(other) && (best == nil || other.Begun.After(best.Begun)):
			best, path = other, p
		}
	}
	return path, skipped, nil
}

// newest opens the newest log of s in dir with such a name, and reads it. It is ErrNone when there
// is none.
func newest(dir, suffix string, s *Subject) (*found, error) {
	path, skipped, err := look(dir, suffix, s)
	if err != nil {
		return nil, err
	}
	if path == "" {
		verb := map[string]string{undoSuffix: "undo", spoolSuffix: "recover"}[suffix]
		err := fmt.Errorf("%s: nothing to %s: %w is in %s", s.Path, verb, ErrNone, dir)
		if len(skipped) > 0 {
			err = fmt.Errorf("%w; %s", err, strings.Join(skipped, "; "))
		}
		return nil, err
	}
	l, err := openLog(path, 0)
	if err != nil {
		return nil, err
	}
	f := &found{log: l, kept: pages{}, skipped: skipped}
	if err := f.follow(nil); err != nil {
		l.close()
		return nil, err
	}
	return f, nil
}
