package device

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// OpenWrite opens a device or image file for writing and reading. An image file
// that does not exist is written under a hidden name in the same directory,
// which is created when missing, and takes its name at Commit; what an earlier,
// interrupted run left under the hidden name is the base to go on from. New
// images have mode 0600, since a disk holds secrets.
func OpenWrite(path string, o WriteOptions) (*Object, error) {
	if o.Size < 0 {
		return nil, refuse(ErrRefused, "open", path, "cannot be written from a source of unknown size")
	}
	info, err := Stat(path)
	if changed := changedKind(path, info, err, o.Seen); changed != nil {
		return nil, changed
	}
	switch {
	case errors.Is(err, ErrNotFound) && o.follower():
		return nil, claimGone(path)
	case errors.Is(err, ErrNotFound):
		return openNew(path, o)
	case err != nil:
		return nil, err
	case info.Kind == Dir:
		return nil, refuse(ErrIsDir, "open", path, "is a directory, not a device or image file")
	case info.Kind == Block && o.Reflink:
		return nil, refuse(ErrUnsupported, "open", path, "apply = reflink is for image files, this is a device: leave it out")
	case info.Kind == Block:
		return openTarget(path, info, o)
	case o.Reflink && !o.follower():
		return openClone(path, info, o)
	default:
		return openImage(path, info, o)
	}
}

// changedKind refuses a target that became something else since it was seen: a
// device where a file was, or a file to be made where a device was.
func changedKind(path string, info Info, err error, seen *Kind) error {
	switch {
	case seen == nil:
	case errors.Is(err, ErrNotFound) && *seen == Block:
		return refuse(ErrRefused, "open", path, "was a device when it was looked at and is gone: nothing is created in its place")
	case err == nil && info.Kind != *seen && info.Kind != Dir:
		return refuse(ErrRefused, "open", path, "was a %s when it was looked at and is a %s now: look again, and check the name", *seen, info.Kind)
	}
	return nil
}

func claimGone(path string) error {
	return refuse(ErrBusy, "open", path, "the claim on it is gone: the transfer that held it has ended; start it again")
}

// openTarget opens a device. Its size is compared before it is opened, since
// opening for writing is already an event for udev, and again afterwards.
func openTarget(path string, info Info, w WriteOptions) (*Object, error) {
	if info.ReadOnly {
		return nil, refuse(ErrReadOnly, "open", path, "the device is read-only: make it writable first, for example with blockdev --setrw")
	}
	if _, _, err := common(path, info, w); err != nil {
		return nil, err
	}
	f, notices, err := openExclusive(path, info, w)
	if err != nil {
		return nil, fail("open", path, err)
	}
	o := &Object{f: f, path: path, setSize: -1, write: true, forced: w.Force, follower: w.follower(), notices: notices}
	if err := o.identify(info); err != nil {
		return nil, o.giveUp(err)
	}
	if err := o.admit(w.Guard); err != nil {
		return nil, o.giveUp(err)
	}
	if o.info.ReadOnly {
		return nil, o.giveUp(refuse(ErrReadOnly, "open", path, "the device is read-only"))
	}
	if err := o.findThin(); err != nil {
		return nil, o.giveUp(err)
	}
	size, notice, err := common(path, o.info, w)
	if err != nil {
		return nil, o.giveUp(err)
	}
	o.size = size
	o.note(notice)
	if err := o.claim(w); err != nil {
		return nil, o.giveUp(err)
	}
	if err := o.identified(w); err != nil {
		return nil, o.giveUp(err)
	}
	if err := w.prepare(o); err != nil {
		return nil, o.giveUp(err)
	}
	if err := o.prepareZero(w.Zero, o.size); err != nil {
		return nil, o.giveUp(err)
	}
	return o, nil
}

// common compares target and source and gives the bytes to be written.
func common(path string, info Info, w WriteOptions) (size int64, notice string, err error) {
	switch have := info.Size; {
	case have == w.Size:
		return have, "", nil
	case have < w.Size && !w.IgnoreSize:
		return 0, "", refuse(ErrSizeMismatch, "open", path,
			"the %s has %d bytes, the source has %d: use a larger one, or --ignore-size to copy only what fits", info.Kind, have, w.Size)
	case have < w.Size:
		return have, fmt.Sprintf("%s: only the first %d of %d bytes of the source fit", path, have, w.Size), nil
	case !w.IgnoreSize:
		return 0, "", refuse(ErrSizeMismatch, "open", path,
			"the %s has %d bytes, the source only %d: use --ignore-size to write the first %d bytes and keep the rest", info.Kind, have, w.Size, w.Size)
	default:
		return w.Size, fmt.Sprintf("%s: only the first %d bytes are synced, the last %d are kept as they are", path, w.Size, have-w.Size), nil
	}
}

// openImage opens an existing image file to be updated in place.
func openImage(path string, info Info, w WriteOptions) (*Object, error) {
	if where := kernelTree(filepath.Dir(path)); where != "" {
		return nil, refuse(ErrRefused, "open", path, "is a regular file, in memory, where a device under %s is meant: remove it and check the device name", where)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fail("open", path, err)
	}
	o := &Object{f: f, path: path, write: true, follower: w.follower(), setSize: -1}
	if err := o.identify(info); err != nil {
		return nil, o.giveUp(err)
	}
	if err := o.admit(w.Guard); err != nil {
		return nil, o.giveUp(err)
	}
	if err := o.claim(w); err != nil {
		return nil, o.giveUp(err)
	}
	if err := o.identified(w); err != nil {
		return nil, o.giveUp(err)
	}
	o.size = w.Size
	if w.IgnoreSize {
		var notice string
		o.size, notice, _ = common(path, o.info, w)
		o.note(notice)
	}
	err = w.prepare(o)
	if w.Later {
		o.zero = w.Zero
	} else if err == nil {
		err = o.prepareZero(w.Zero, o.size)
	}
	if err == nil && !w.IgnoreSize && !w.Later {
		err = o.resize()
	}
	if err != nil {
		return nil, o.giveUp(err)
	}
	return o, nil
}

// resize makes the file as long as the source. Cutting it is left to Commit:
// until then the old tail is not lost. Followers rely on the leader.
func (o *Object) resize() error {
	switch size := o.size; {
	case o.info.Size >= size && o.follower:
	case o.follower:
		return refuse(ErrSizeMismatch, "open", o.path, "has %d bytes, the source has %d", o.info.Size, size)
	case o.info.Size < size:
		if err := o.f.Truncate(size); err != nil {
			return fail("grow", o.path, err)
		}
		o.info.Size = size
	default:
		o.setSize = size
	}
	return nil
}

func (o *Object) note(notice string) {
	if notice != "" {
		o.notices = append(o.notices, notice)
	}
}

// partialName is the hidden name a new image has until it is complete. It is
// the same in every run, so that an interrupted copy goes on where it was.
func partialName(final string) string {
	sum := sha256.Sum256([]byte(base(final)))
	return ".blockdev-" + hex.EncodeToString(sum[:8]) + ".partial"
}

// openNew opens the partial file of an image that does not exist yet.
func openNew(path string, w WriteOptions) (*Object, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, refuse(ErrRefused, "open", path, "is a symlink that leads nowhere: nothing is created through it")
	}
	if err := mayCreate("create", path); err != nil {
		return nil, err
	}
	if err := expectedNew(path, w); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fail("mkdir", dir, err)
	}
	partial := filepath.Join(dir, partialName(path))
	// Between opening and locking, its owner may have renamed or removed it.
	for range 10 {
		o, fresh, err := openPartial(partial, path, w)
		if err != nil {
			return nil, err
		}
		if o == nil {
			continue
		}
		o.final, o.info.Name, o.setSize, o.size = path, base(path), w.Size, w.Size
		err = o.prepareZero(w.Zero, w.Size)
		if err == nil {
			err = fail("grow", path, o.f.Truncate(w.Size))
		}
		if err != nil {
			if fresh { // what an earlier run has left is still worth something
				_ = os.Remove(partial)
			}
			return nil, o.giveUp(err)
		}
		o.info.Size = w.Size
		return o, nil
	}
	return nil, refuse(ErrBusy, "open", path, "its partial file %s keeps changing: another copy is writing it", partial)
}

// openPartial makes or reuses the partial file of final and locks it. It returns nil when
// the path led elsewhere by the time the lock was held, and after it removed a
// file that somebody else could still write to. fresh tells that it made the file.
func openPartial(partial, final string, w WriteOptions) (o *Object, fresh bool, err error) {
	fresh = true
	f, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|os.O_EXCL|noFollow, 0o600)
	if errors.Is(err, os.ErrExist) {
		fresh = false
		f, err = os.OpenFile(partial, os.O_RDWR|noFollow, 0)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fail("open", partial, err)
	}
	o = &Object{f: f, path: partial, write: true, setSize: -1}
	opened, err := f.Stat()
	if err != nil || !opened.Mode().IsRegular() {
		return nil, false, o.giveUp(refuse(ErrRefused, "open", partial, "is in the way of a new image: remove it"))
	}
	if o.info, err = describe(partial, opened); err != nil {
		return nil, false, o.giveUp(fail("open", partial, err))
	}
	if err := o.admitAs(base(final), w.Guard); err != nil {
		if fresh {
			o.disown()
		}
		return nil, false, o.giveUp(err)
	}
	if err := o.claim(w); err != nil {
		return nil, false, o.giveUp(err)
	}
	named, err := os.Lstat(partial)
	if err != nil || !os.SameFile(opened, named) {
		return nil, false, o.giveUp(nil)
	}
	if !fresh && !ours(opened) {
		_ = o.giveUp(nil)
		return nil, false, fail("remove", partial, os.Remove(partial))
	}
	return o, fresh, nil
}
