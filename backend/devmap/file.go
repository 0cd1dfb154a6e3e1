package devmap

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// File is a picture to be written, of which it is known that it can be: it has a
// place in its directory already, under a name of its own.
type File struct {
	path   string
	layout Layout
	temp   *os.File
}

// Create makes a file that becomes path when the picture is complete. It refuses
// what cannot be written in the end.
func Create(path string, layout Layout) (*File, error) {
	if _, ok := formats[strings.ToLower(filepath.Ext(path))]; !ok {
		return nil, fmt.Errorf("the map %q: its name must end in .png or .svg", path)
	}
	if layout != Hilbert && layout != Rows {
		return nil, fmt.Errorf("the layout %q of the map: must be %s or %s", layout, Hilbert, Rows)
	}
	if found, err := os.Stat(path); err == nil && !found.Mode().IsRegular() {
		return nil, fmt.Errorf("the map %s exists and is no file: choose another name", path)
	}
	dir := filepath.Dir(path)
	if abs, err := filepath.Abs(dir); err == nil && noDisk(abs) {
		return nil, fmt.Errorf("the map %s: %s is not on a disk: choose another directory", path, dir)
	}
	temp, err := os.OpenFile(filepath.Join(dir, "."+filepath.Base(path)+"."+rand.Text()[:8]+".partial"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the map %s: the directory %s does not exist: create it, or choose another one", path, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("the map %s cannot be written: %w", path, errors.Unwrap(err))
	}
	return &File{path, layout, temp}, nil
}

// noDisk tells whether a directory is where a mistyped device would be.
func noDisk(dir string) bool {
	for _, top := range []string{"/dev", "/proc", "/sys"} {
		if dir == top || strings.HasPrefix(dir, top+"/") && !strings.HasPrefix(dir, "/dev/shm") {
			return true
		}
	}
	return false
}

// Write writes the picture and gives it its name. It is called at most once, in
// place of Discard.
func (f *File) Write(m *Map, c Caption) error {
	write := formats[strings.ToLower(filepath.Ext(f.path))]
	err := write(f.temp, m.lay(c, f.layout))
	err = errors.Join(err, f.temp.Close())
	if err == nil {
		err = os.Rename(f.temp.Name(), f.path)
	}
	if err != nil {
		os.Remove(f.temp.Name())
		return fmt.Errorf("the map %s could not be written: %w", f.path, err)
	}
	return nil
}

// Discard leaves no trace.
func (f *File) Discard() {
	f.temp.Close()
	os.Remove(f.temp.Name())
}

// Path is the name that the picture gets.
func (f *File) Path() string { return f.path }
