package device

import "os"

// OpenRead opens a device or image file for reading. That it is being written
// meanwhile is no error but a notice.
func OpenRead(path string) (*Object, error) { return OpenReadGuarded(path, nil) }

// OpenReadGuarded is OpenRead of what the guard allows.
func OpenReadGuarded(path string, guard Guard) (*Object, error) {
	before, err := Stat(path)
	if err != nil {
		return nil, err
	}
	if before.Kind == Dir {
		return nil, refuse(ErrIsDir, "open", path, "is a directory, not a device or image file")
	}
	if before.Kind == Block && before.Size == 0 {
		return nil, refuse(ErrNotFile, "open", path, "has no medium: it is 0 bytes long; attach one first")
	}
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, fail("open", path, err)
	}
	o := &Object{f: f, path: path, setSize: -1}
	if err := o.identify(before); err != nil {
		return nil, o.giveUp(err)
	}
	if err := o.admit(guard); err != nil {
		return nil, o.giveUp(err)
	}
	o.size = o.info.Size
	o.notices = readNotices(f, o.info)
	o.torn = len(o.notices) > 0
	return o, nil
}

// identify fills the description from the open file, and refuses when the path
// leads elsewhere than it did before opening.
func (o *Object) identify(before Info) error {
	fi, err := o.f.Stat()
	if err != nil {
		return fail("stat", o.path, err)
	}
	info, err := describe(o.path, fi)
	if err != nil {
		return fail("stat", o.path, err)
	}
	if info.ID != before.ID || info.Kind != before.Kind {
		return refuse(ErrRefused, "open", o.path, "was replaced while it was being opened: try again")
	}
	info.Name = before.Name
	if info.Kind == Block {
		if o.align, err = probe(o.f, &info); err != nil {
			return fail("open", o.path, err)
		}
	}
	o.info = info
	adviseSequential(o.f)
	return nil
}

// giveUp closes a half-opened object and passes err on.
func (o *Object) giveUp(err error) error {
	o.closed = true
	_ = o.f.Close()
	return err
}
