package receipt

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
)

// Publish copies the receipt at path, and its manifest, to a directory: the manifest first,
// each whole and durable or not at all. It is for receipts that may be seen only when
// something else is complete. It returns the path of the new one.
func Publish(path, dir string) (string, error) {
	r, err := Read(path)
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, filepath.Base(path))
	if err := publish(filepath.Join(filepath.Dir(path), r.Manifest), filepath.Join(dir, r.Manifest)); err != nil {
		return "", err
	}
	if err := publish(path, to); err != nil {
		_ = os.Remove(filepath.Join(dir, r.Manifest)) // nothing names it
		return "", err
	}
	return to, nil
}

func publish(from, to string) error {
	switch _, err := os.Lstat(to); {
	case err == nil:
		return &os.PathError{Op: "create", Path: to, Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return manifest.Store(to, func(w io.Writer) error { _, err := io.Copy(w, f); return err })
}
