package device

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// Kinds of errors. Every error of this package is an [*Error] that matches
// exactly one of them with errors.Is.
var (
	ErrNotFound     = errors.New("not found")
	ErrNotFile      = errors.New("not a block device or regular file")
	ErrIsDir        = errors.New("is a directory")
	ErrNotEmpty     = errors.New("directory not empty")
	ErrBusy         = errors.New("in use")
	ErrReadOnly     = errors.New("read-only")
	ErrRefused      = errors.New("refused")
	ErrSizeMismatch = errors.New("size mismatch")
	ErrNoSpace      = errors.New("no space left")
	ErrPermission   = errors.New("permission denied")
	ErrUnsupported  = errors.New("not supported")
	ErrIdentity     = errors.New("another device")
	ErrIO           = errors.New("input/output error")
)

// Error is a failure of an operation on one path.
type Error struct {
	Op     string // "open", "read", "write", ...
	Path   string
	Offset int64  // byte at which reading or writing failed, -1 for none
	Length int64  // bytes from Offset on that were not done, 0 when not known
	Kind   error  // one of the Err values above
	Text   string // cause and remedy; empty when Err says it all
	Err    error  // what the system said, or nil
}

// Error is one line naming the path, the place and the cause.
func (e *Error) Error() string {
	at := e.Path
	if e.Offset >= 0 {
		at = fmt.Sprintf("%s at byte %d", e.Path, e.Offset)
	}
	cause := e.Kind
	if e.Err != nil {
		cause = bare(e.Err)
	}
	switch {
	case e.Text != "" && e.Err != nil:
		return fmt.Sprintf("%s: %s (%v)", at, e.Text, cause)
	case e.Text != "":
		return at + ": " + e.Text
	case e.Length > 0:
		return fmt.Sprintf("%s %d bytes of %s: %v", e.Op, e.Length, at, cause)
	default:
		return fmt.Sprintf("%s %s: %v", e.Op, at, cause)
	}
}

// Is matches the kind.
func (e *Error) Is(target error) bool { return target == e.Kind }

// Unwrap gives the error of the system.
func (e *Error) Unwrap() error { return e.Err }

// bare strips the path and operation that package os repeats.
func bare(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	var se *os.SyscallError
	switch {
	case errors.As(err, &pe):
		return pe.Err
	case errors.As(err, &le):
		return le.Err
	case errors.As(err, &se):
		return se.Err
	}
	return err
}

// fail wraps what the system said about op on path.
func fail(op, path string, err error) error { return failAt(op, path, -1, err) }

// failAt is fail with the byte at which it happened. An *Error passes as is.
func failAt(op, path string, off int64, err error) error {
	var done *Error
	if err == nil || errors.As(err, &done) {
		return err
	}
	e := &Error{Op: op, Path: path, Offset: off, Kind: kindOf(err), Err: err}
	if e.Kind == ErrPermission && op == "open" {
		e.Text = "cannot be opened by this user: become root, with sudo, or join the group that owns it"
	}
	return e
}

// failSpan is failAt for n bytes from off on.
func failSpan(op, path string, off, n int64, err error) error {
	err = failAt(op, path, off, err)
	if e, ok := err.(*Error); ok && e.Length == 0 {
		e.Length = n
	}
	return err
}

// Unreadable tells the failure to read a place from that of a device that is gone,
// or was cut.
func Unreadable(err error) bool {
	var e *Error
	var no syscall.Errno
	switch {
	case !errors.As(err, &e) || e.Kind != ErrIO || e.Op != "read", errors.Is(err, io.ErrUnexpectedEOF):
		return false
	}
	return !errors.As(err, &no) || !slices.Contains(goneErrnos, no)
}

// refuse is an error of our own rules.
func refuse(kind error, op, path, format string, args ...any) error {
	return &Error{Op: op, Path: path, Offset: -1, Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// kindOf is the one mapping from what systems say to the kinds.
func kindOf(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		if kind, ok := errnoKinds[no]; ok {
			return kind
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ErrNotFound
	case errors.Is(err, fs.ErrPermission):
		return ErrPermission
	case errors.Is(err, errors.ErrUnsupported):
		return ErrUnsupported
	}
	return ErrIO
}
