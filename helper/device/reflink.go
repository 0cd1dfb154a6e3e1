package device

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// clone is what an image has that is replaced by a changed clone of itself.
type clone struct {
	of *os.File // the image, held and claimed until the clone has its name
	fi os.FileInfo
}

// openClone makes a clone of an existing image, which shares all its blocks, and
// opens that in its place: it takes the name of the image at Commit, and until then
// the image is as it was. Only the transfer that made a clone goes on with it, after a
// lost connection: what is not compared must be what the image has.
func openClone(path string, info Info, w WriteOptions) (*Object, error) {
	real, err := filepath.EvalSymlinks(path) // the name that is replaced is not that of a link
	if err != nil {
		return nil, fail("open", path, err)
	}
	old := w
	old.Size, old.IgnoreSize, old.Zero, old.Prepare = info.Size, true, ZeroAuto, nil
	image, err := openImage(path, info, old)
	if err != nil {
		return nil, err
	}
	o, err := cloneOf(image, real, w)
	if err != nil {
		_ = image.Close()
		return nil, err
	}
	return o, nil
}

// cloneOf opens the clone of an image that is claimed.
func cloneOf(image *Object, real string, w WriteOptions) (*Object, error) {
	fi, err := image.f.Stat()
	if err != nil {
		return nil, fail("stat", image.path, err)
	}
	w.Expect, w.Pins = "", nil // asked of the image
	partial := filepath.Join(filepath.Dir(real), partialName(real))
	stamp := stampOf(fi, w.Transfer)
	for range 10 {
		o, fresh, err := openPartial(partial, real, w)
		if err != nil {
			return nil, err
		}
		if o == nil {
			continue
		}
		if !fresh && !stamped(o.f, stamp) {
			// Open until there is another, which so gets another inode: by that a
			// client sees that what it has done is gone.
			defer o.Close()
			if err := os.Remove(partial); err != nil {
				return nil, fail("remove", partial, err)
			}
			continue
		}
		if fresh {
			err = o.cloned(image, fi, stamp)
		}
		if err != nil {
			_ = os.Remove(partial)
			return nil, o.giveUp(err)
		}
		o.final, o.info.Name, o.size, o.clone = real, base(image.path), w.Size, clone{image.f, fi}
		if w.IgnoreSize {
			var notice string
			o.size, notice, _ = common(image.path, image.info, w)
			o.note(notice)
		}
		if links(fi) > 1 {
			o.note(image.path + ": has other names, which keep the old content: apply = reflink replaces only this one")
		}
		if err := o.begin(w, image.info.Size); err != nil {
			return nil, o.giveUp(err)
		}
		o.notices = append(o.notices, image.notices...)
		return o, nil
	}
	return nil, refuse(ErrBusy, "open", real, "its partial file %s keeps changing: another copy is writing it", partial)
}

// cloned makes o a clone of image, and sees that it may get its owner, mode and
// attributes: at the end would be late. Until then only its owner reads it.
func (o *Object) cloned(image *Object, fi os.FileInfo, stamp string) error {
	likeFlags(o.f, image.f)
	if err := cloneFile(o.f, image.f); err != nil {
		return refuse(ErrUnsupported, "clone", image.path, "apply = reflink, but its file system cannot clone files, as XFS and Btrfs do: leave it out (%v)", bare(err))
	}
	own, err := o.f.Stat()
	if err != nil {
		return fail("stat", o.path, err)
	}
	if err := o.resemble(image.f, fi); err != nil {
		return refuse(ErrRefused, "clone", image.path, "the clone cannot get owner, mode and attributes of the image (%v): run the helper as root or as the owner, or leave apply = reflink out", bare(err))
	}
	dropACL(o.f)
	if err := o.own(own); err != nil {
		return err
	}
	if err := dataSync(o.f); err != nil { // before the stamp says that it is a clone
		return fail("sync", o.path, err)
	}
	if stamp != "" {
		_ = setStamp(o.f, stamp) // without it, nobody goes on with it
	}
	return nil
}

// resemble gives o the owner, mode and extended attributes of another file, labels and
// access control lists among them.
func (o *Object) resemble(like *os.File, fi os.FileInfo) error {
	err := fail("set the owner of", o.path, chown(o.f, fi))
	if err == nil { // before the mode, which without a list would let a group in that the list does not
		err = fail("set the attributes of", o.path, likeAttributes(o.f, like))
	}
	if err == nil {
		err = fail("set the mode of", o.path, o.f.Chmod(fi.Mode().Perm()))
	}
	return err
}

// own gives o an owner and mode.
func (o *Object) own(fi os.FileInfo) error {
	if err := chown(o.f, fi); err != nil {
		return fail("set the owner of", o.path, err)
	}
	return fail("set the mode of", o.path, o.f.Chmod(fi.Mode().Perm()))
}

// stampOf names a clone of an image as it is, made by a transfer; it is empty when that has no name.
func stampOf(fi os.FileInfo, transfer Token) string {
	if transfer == (Token{}) {
		return ""
	}
	return fmt.Sprintf("%s %d %d", hex.EncodeToString(transfer[:]), fi.Size(), fi.ModTime().UnixNano())
}

// stamped tells whether a clone is the one that is named.
func stamped(f *os.File, stamp string) bool {
	got, err := getStamp(f)
	return err == nil && stamp != "" && got == stamp
}

// begin gives a clone the size it will have; one that is larger than the source
// keeps its own when sizes are ignored.
func (o *Object) begin(w WriteOptions, have int64) error {
	size := w.Size
	if w.IgnoreSize {
		size = have
	}
	if err := o.prepareZero(w.Zero, o.size); err != nil {
		return err
	}
	if err := o.f.Truncate(size); err != nil {
		return fail("grow", o.path, err)
	}
	o.info.Size, o.setSize = size, size
	return nil
}

// adopt gives the clone owner, mode and attributes of the image that it replaces, if
// that is still there.
func (o *Object) adopt() error {
	if o.clone.of == nil {
		return nil
	}
	named, err := os.Lstat(o.final)
	if err != nil || !os.SameFile(named, o.clone.fi) {
		return refuse(ErrRefused, "rename", o.final, "was replaced while it was copied: the copy is kept as %s", o.path)
	}
	removeStamp(o.f)
	if err := o.resemble(o.clone.of, o.clone.fi); err != nil {
		return err
	}
	return fail("sync", o.path, o.f.Sync())
}

// close lets go of the image.
func (c *clone) close() {
	if c.of != nil {
		_ = c.of.Close() // nothing was written to it
	}
}
