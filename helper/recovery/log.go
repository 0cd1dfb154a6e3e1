package recovery

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Version of the format.
const Version = 1

const (
	magic      = "BDL1"
	headerSize = 40
	maxPayload = block.ExtentSize + 64<<10
)

// kind is what a record is.
type kind uint8

const (
	kindBegin     kind = 1 // the target; first of a file
	kindOld       kind = 2 // what a range held, and the digest of what it gets
	kindRewritten kind = 3 // a range that was kept before is written again
	kindRange     kind = 4 // a range is complete: its root
	kindEnd       kind = 5 // the copy is complete; length is the size of the target
	kindUndoing   kind = 6 // bringing back has begun

	kindTransfer kind = 7  // of a spool: the token of its transfer
	kindForget   kind = 8  // what was put in for a range before is void
	kindNew      kind = 9  // what a range gets
	kindCommit   kind = 10 // it is to be applied; length is what was compared
)

// record is one entry of a log.
type record struct {
	kind     kind
	encoding wire.Encoding // of the data of the payload
	off, n   int64         // range of the target
	payload  []byte        // valid until the next is read
}

func (r *record) span() span { return span{r.off, r.off + r.n} }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends r as it is in a file. durable is how much of that was
// known to be on the disk: what is before it cannot be the torn end of a crash.
func appendRecord(b []byte, r *record, durable int64) []byte {
	start := len(b)
	b = append(b, magic...)
	b = append(b, byte(r.kind), byte(r.encoding), 0, 0)
	for _, v := range []int64{durable, r.off, r.n} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.payload)))
	sum := crc32.Update(crc32.Checksum(b[start:], castagnoli), castagnoli, r.payload)
	return append(binary.BigEndian.AppendUint32(b, sum), r.payload...)
}

// Log is an open file of records. Several processes may have it open: who appends
// holds its lock, and has read what others have appended.
type Log struct {
	f       file
	path    string
	end     int64 // of the records read or written
	durable int64 // known to be on the disk
	failed  error // of a sync: what it was to make durable is lost, and no other one will say so
	buf     []byte
}

func openLog(path string, flag int) (*Log, error) {
	f, err := openOwn(path, os.O_RDWR|flag)
	if err != nil {
		return nil, err
	}
	return &Log{f: wrap(path, f), path: path}, nil
}

// openOwn opens a log, which is a file of this user or of root, and no link.
func openOwn(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|noFollow, 0o600)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && (!fi.Mode().IsRegular() || !own(fi)) {
		err = fmt.Errorf("%s: is no file of this user, and is not trusted: remove it", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (l *Log) close() error { return l.f.Close() }

// Path is where it is.
func (l *Log) Path() string { return l.path }

// Durable is how much of it is known to be on the disk, in bytes.
func (l *Log) Durable() int64 { return l.durable }

// next reads the record at l.end. It is io.EOF behind the last one, errTorn where
// no whole record is, and ErrDamaged where one was.
func (l *Log) next(r *record) error {
	n, durable, err := l.readAt(l.end, r)
	if err == errTorn {
		return l.torn()
	}
	if err == nil {
		l.end += n
		l.durable = max(l.durable, durable)
	}
	return err
}

// errTorn is the end of a log whose last records did not reach the disk.
var errTorn = errors.New("a record is not whole")

// readAt reads the record at off, of n bytes.
func (l *Log) readAt(off int64, r *record) (n, durable int64, err error) {
	var head [headerSize]byte
	got, err := l.f.ReadAt(head[:], off)
	switch {
	case got == 0 && err == io.EOF:
		return 0, 0, io.EOF
	case err == io.EOF:
		return 0, 0, errTorn
	case err != nil:
		return 0, 0, err
	}
	length := binary.BigEndian.Uint32(head[32:])
	if string(head[:4]) != magic || length > maxPayload {
		return 0, 0, errTorn
	}
	if cap(l.buf) < int(length) {
		l.buf = make([]byte, maxPayload)
	}
	payload := l.buf[:length]
	if got, err := l.f.ReadAt(payload, off+headerSize); got < len(payload) {
		if err == io.EOF {
			err = errTorn
		}
		return 0, 0, err
	}
	if crc32.Update(crc32.Checksum(head[:36], castagnoli), castagnoli, payload) != binary.BigEndian.Uint32(head[36:]) {
		return 0, 0, errTorn
	}
	num := func(i int) int64 { return int64(binary.BigEndian.Uint64(head[i:])) }
	*r = record{kind: kind(head[4]), encoding: wire.Encoding(head[5]), off: num(16), n: num(24), payload: payload}
	if r.off < 0 || r.n < 0 || r.off+r.n < 0 {
		return 0, 0, errTorn
	}
	return headerSize + int64(length), num(8), nil
}

// torn tells the torn end of a log from one that is damaged: what a later record
// says was on the disk cannot be torn.
func (l *Log) torn() error {
	damaged := fmt.Errorf("%s: %w at byte %d: what is behind cannot be trusted", l.path, ErrDamaged, l.end)
	if l.end < l.durable {
		return damaged
	}
	const piece = 1 << 20
	buf := make([]byte, piece+len(magic))
	for from := l.end + 1; ; from += piece {
		n, err := l.f.ReadAt(buf, from)
		for i := 0; i < min(n, piece); i++ {
			k := bytes.Index(buf[i:n], []byte(magic))
			if k < 0 || i+k >= piece {
				break
			}
			i += k
			var r record
			if _, durable, err := l.readAt(from+int64(i), &r); err == nil && durable > l.end {
				return damaged
			}
		}
		switch {
		case err == io.EOF:
			return errTorn
		case err != nil:
			return err
		}
	}
}

// append writes records, encoded with appendRecord, behind the last one. A failure
// leaves the log as it was. The caller holds the lock.
func (l *Log) append(b []byte) error {
	n, err := l.f.WriteAt(b, l.end)
	if err == nil {
		l.end += int64(n)
		return nil
	}
	_ = l.f.Truncate(l.end) // what is left of it is found torn
	return full(l.path, err)
}

// full says what a log that cannot be written means, and names what is to be done when
// there is no space at path.
func full(path string, err error) error {
	state := ""
	switch filepath.Ext(path) {
	case undoSuffix:
		state = "nothing was overwritten that is not kept, so undo is possible; "
	case spoolSuffix:
		state = "the target is as it was; "
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s: %w: %smake space there and run the same command again", path, ErrSpace, state)
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w: %slook at the disk of the log", ErrIO, err, state)
	}
	return err
}

// add appends one record and makes it durable.
func (l *Log) add(r *record) error {
	err := l.append(appendRecord(nil, r, l.durable))
	if err == nil {
		At("appended "+r.kind.String(), l)
		err = l.sync()
	}
	if err == nil {
		At("synced "+r.kind.String(), l)
	}
	return err
}

func (k kind) String() string {
	return map[kind]string{kindBegin: "begin", kindOld: "old", kindRewritten: "rewritten", kindRange: "range", kindEnd: "end", kindUndoing: "undoing",
		kindTransfer: "transfer", kindForget: "forget", kindNew: "new", kindCommit: "commit"}[k]
}

// subject encodes and decodes the payload of kindBegin.
func appendSubject(b []byte, s *Subject) []byte {
	str := func(v string) { b = append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...) }
	b = binary.BigEndian.AppendUint16(b, Version)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Begun.UnixNano()))
	b = append(b, 0)
	if s.File {
		b[len(b)-1] = 1
	}
	str(s.Path)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.IDs)))
	for _, id := range s.IDs {
		str(id)
	}
	return b
}
