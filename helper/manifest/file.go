package manifest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// Store makes a file of what write writes, so that under its name there is at any time
// the whole of the new file or what was there before. It is durable when Store returns.
// Only its owner may read it: digests tell what is on a disk to who guesses it.
func Store(path string, write func(w io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".blockdev-*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename durable. Windows has no such call, and some file systems do
// not need it.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil || runtime.GOOS == "windows" {
		return err
	}
	defer d.Close()
	_ = d.Sync()
	return nil
}

// Replaceable refuses to replace what is there and is no manifest: a device node, an
// image, what not.
func Replaceable(path string) error {
	switch info, err := os.Lstat(path); {
	case os.IsNotExist(err):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: is there, and is no regular file: name a new file for the manifest", path)
	case info.Size() == 0:
		return nil
	}
	if is, err := IsFile(path); err != nil || is {
		return err
	}
	return fmt.Errorf("%s: is there, and is no manifest: it is not replaced, name a new file", path)
}

// IsFile tells whether a regular file says that it is a manifest.
func IsFile(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var first [MagicSize]byte
	n, err := io.ReadFull(f, first[:])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return Is(first[:n]), err
}

// File is a manifest in a file.
type File struct {
	*Manifest
	f    *os.File
	temp string // name of a file that goes with Close
}

// Open reads a manifest from a file.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	m, err := readFile(f, path)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &File{Manifest: m, f: f}, nil
}

func readFile(f *os.File, name string) (*Manifest, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	m, err := Read(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

// Spool reads a manifest from a stream, through a temporary file. It takes no more than
// what the manifest says it has.
func Spool(r io.Reader, name string) (*File, error) {
	f, err := os.CreateTemp("", ".blockdev-*.tmp")
	if err != nil {
		return nil, err
	}
	file := &File{f: f}
	if os.Remove(f.Name()) != nil {
		file.temp = f.Name() // this system cannot remove what is open
	}
	if err := spool(f, r); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if file.Manifest, err = readFile(f, name); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func spool(f *os.File, r io.Reader) error {
	first := make([]byte, maxHeader)
	n, err := io.ReadFull(r, first)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	h, _, err := parse(first[:n])
	if err != nil {
		return err
	}
	if _, err := f.Write(first[:n]); err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(r, h.length()-int64(n)+1)) // one more shows that there is more
	return err
}

// Close ends reading.
func (f *File) Close() error {
	err := f.f.Close()
	if f.temp != "" {
		err = errors.Join(err, os.Remove(f.temp))
	}
	return err
}
