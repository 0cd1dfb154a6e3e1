package device

// Cut is the range that Commit cuts off an image file, from what it had when it was
// opened; both are equal when nothing is.
func (o *Object) Cut() (from, to int64) {
	if o.follower || o.info.Kind == Block || o.final != "" || o.setSize < 0 || o.setSize >= o.info.Size {
		return o.size, o.size
	}
	return o.setSize, o.info.Size
}

// ReadCut is ReadAt that also reads what lies behind Size.
func (o *Object) ReadCut(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= o.size {
		return o.ReadAt(p, off)
	}
	n, err := o.raw().ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	return n, failAt("read", o.path, off+int64(n), err)
}

// Resize makes an image file size bytes long: it grows at once, and is cut at
// Commit. A device cannot be anything but what it is.
func (o *Object) Resize(size int64) error {
	if o.info.Kind == Block {
		if size == o.info.Size {
			return nil
		}
		return refuse(ErrSizeMismatch, "resize", o.path, "has %d bytes, not %d", o.info.Size, size)
	}
	o.size, o.setSize = size, size
	return o.resize()
}

// MayKeep refuses a directory in which nothing lasts, or in which others may put
// files or exchange it: what is read there is written to disks.
func MayKeep(dir string) error {
	info, err := Stat(dir)
	if err != nil {
		return err
	}
	if info.Kind != Dir {
		return refuse(ErrRefused, "keep in", dir, "is no directory")
	}
	if where := kernelTree(dir); where != "" {
		return refuse(ErrRefused, "keep in", dir, "is in memory, under %s: name a directory on a disk", where)
	}
	return private(dir)
}
