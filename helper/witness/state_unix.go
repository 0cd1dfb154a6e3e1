//go:build unix

package witness

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// mostRecord is how long a record may be, in bytes.
const mostRecord = 1 << 20

// stateDir makes the directory for records, in memory where the system keeps such things
// until it is shut down. Nobody but this user and root can write to it.
func stateDir() (string, error) {
	if dir := os.Getenv("BLOCKDEV_WITNESS_DIR"); dir != "" {
		return dir, private(dir)
	}
	var first error
	for _, parent := range []string{"/run", os.Getenv("XDG_RUNTIME_DIR")} {
		if !filepath.IsAbs(parent) {
			continue
		}
		dir := filepath.Join(parent, "blockdev-helper-"+strconv.Itoa(os.Geteuid()))
		err := private(parent, dir)
		if err == nil {
			return dir, nil
		}
		first = errors.Join(first, err)
	}
	return "", fmt.Errorf("there is no directory for it that lasts as long as the boot: %w", first)
}

// private makes the last of these directories, and refuses it unless all of them are
// those of this user or of root, and nobody else can write to them.
func private(dirs ...string) error {
	last := dirs[len(dirs)-1]
	if err := os.Mkdir(last, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	for _, dir := range dirs {
		fi, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		uid, own := int(fi.Sys().(*syscall.Stat_t).Uid), os.Geteuid()
		if dir != last && uid == 0 {
			own = 0
		}
		if !fi.IsDir() || uid != own || fi.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("%s: is no directory that only this user can write to", dir)
		}
	}
	return nil
}

// read reads a record.
func read(file string) (r record, err error) {
	text, err := readOwn(file)
	if errors.Is(err, os.ErrNotExist) {
		return r, errNone
	}
	if err != nil {
		return r, err
	}
	return decode(text)
}

// readOwn reads a file that only this user can write to.
func readOwn(file string) ([]byte, error) {
	f, err := openOwn(file, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, mostRecord))
}

// openOwn opens a file that only this user can write to.
func openOwn(file string, flags int) (*os.File, error) {
	f, err := os.OpenFile(file, flags|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil {
		st := fi.Sys().(*syscall.Stat_t)
		if !fi.Mode().IsRegular() || int(st.Uid) != os.Geteuid() || st.Nlink != 1 || fi.Mode().Perm()&0o022 != 0 {
			err = fmt.Errorf("%s: is no file that only this user can write to", file)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// note adds to a file, where there is one.
func note(file, text string) {
	if f, err := openOwn(file, os.O_WRONLY|os.O_APPEND); err == nil {
		_, _ = f.WriteString(text) // without it there is no record
		f.Close()
	}
}

func remove(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// store writes a record: all of it has the name, or none.
func store(file string, text []byte) error {
	temp := file + ".new"
	if err := remove(temp); err != nil {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, file)
	}
	if err != nil {
		_ = os.Remove(temp)
	}
	return err
}
