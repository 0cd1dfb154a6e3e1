package recovery

import (
	"io"
	"os"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// file is what a log is written to; an [os.File].
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Fd() uintptr
	Stat() (os.FileInfo, error)
	Truncate(size int64) error
	Sync() error
}

// wrap is for tests, which have disks that fail.
var wrap = func(path string, f *os.File) file { return f }

// sync makes all that was appended durable. Linux tells a failure once, and counts the
// pages as clean afterwards: the next sync would succeed, and write none of them.
func (l *Log) sync() error {
	if l.failed != nil {
		return l.failed
	}
	end := l.end
	if err := l.f.Sync(); err != nil {
		l.failed = full(l.path, err)
		return l.failed
	}
	l.durable = max(l.durable, end)
	return nil
}

// rewrite writes once more what nobody knows to be on the disk, before who has opened the
// log makes it durable and relies on that. It may be what a sync of another process failed
// to write: then it is read from memory, counts as clean, and a sync would leave it there.
// What is on the disk already is written over with what it is. The caller holds the lock
// and has read the log to its end.
func (l *Log) rewrite() error {
	buf := make([]byte, block.ExtentSize)
	for off := l.durable; off < l.end; {
		p := buf[:min(int64(len(buf)), l.end-off)]
		if err := readFull(l.f, p, off); err != nil {
			return err
		}
		if _, err := l.f.WriteAt(p, off); err != nil {
			return full(l.path, err)
		}
		off += int64(len(p))
	}
	return nil
}
