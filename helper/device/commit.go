package device

import (
	"os"
	"path/filepath"
	"time"
)

// Commit makes the object durable and closes it. An image file also gets the
// size of its source, modTime unless that is zero, and if it is new its name.
// When Commit fails, a new image is still under its hidden name.
func (o *Object) Commit(modTime time.Time) error {
	if o.isClosed() {
		return refuse(ErrRefused, "commit", o.path, "was closed before it was committed")
	}
	err := o.commit(modTime)
	if cerr := o.Close(); err == nil {
		err = cerr
	}
	return err
}

func (o *Object) commit(modTime time.Time) error {
	if o.follower || o.info.Kind == Block {
		return o.Sync()
	}
	// Before the size and the time say that it is complete: all of it is durable.
	if err := o.Sync(); err != nil {
		return err
	}
	if o.setSize >= 0 {
		if err := o.f.Truncate(o.setSize); err != nil {
			return fail("cut", o.path, err)
		}
	}
	if !modTime.IsZero() {
		if err := os.Chtimes(o.path, time.Time{}, modTime); err != nil {
			return fail("set the time of", o.path, err)
		}
	}
	if err := o.f.Sync(); err != nil {
		return o.lost(fail("sync", o.path, err))
	}
	if o.final == "" {
		return nil
	}
	return o.publish()
}

// publish gives a new image its name. The caller has seen that the name was
// free; what has appeared since is replaced only when it is a regular file.
func (o *Object) publish() error {
	if fi, err := os.Lstat(o.final); err == nil && !fi.Mode().IsRegular() {
		return refuse(ErrRefused, "rename", o.final, "has appeared meanwhile and is no regular file: the copy is kept as %s", o.path)
	}
	if err := o.adopt(); err != nil {
		return err
	}
	if closeBeforeRename {
		if err := o.Close(); err != nil {
			return err
		}
	}
	if err := os.Rename(o.path, o.final); err != nil {
		return fail("rename", o.final, err)
	}
	return syncDir(filepath.Dir(o.final))
}

// Abort gives up: a new image is removed, anything else stays as it is by now.
// It closes the object; after Commit or Close it does nothing.
func (o *Object) Abort() error {
	if o.isClosed() {
		return nil
	}
	var err error
	if o.final != "" {
		err = o.removeOpen()
	}
	if cerr := o.Close(); err == nil {
		err = cerr
	}
	return err
}
