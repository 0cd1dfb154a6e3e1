package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/hash"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Name of the remote, as passed to NewFs.
func (f *Fs) Name() string { return f.name }

// Root of the remote, as passed to NewFs, or its parent when that is an object.
func (f *Fs) Root() string { return f.root }

// String is the remote as it is written.
func (f *Fs) String() string { return fs.ConfigString(f) }

// Features of this Fs.
func (f *Fs) Features() *fs.Features { return f.features }

// Precision of modification times. It is the finest there is: with anything
// coarser, rclone would take a device for an image that was written just now.
func (f *Fs) Precision() time.Duration { return time.Nanosecond }

// Hashes are none unless asked for, so that a sync is one pass.
func (f *Fs) Hashes() hash.Set {
	if f.hashes.Load() || offered.Load() > 0 {
		return hash.NewHashSet(hash.SHA256)
	}
	return hash.NewHashSet()
}

// List the devices, images and directories in dir, or the hosts.
func (f *Fs) List(ctx context.Context, dir string) (fs.DirEntries, error) {
	at, err := f.place(dir)
	if err != nil {
		return nil, err
	}
	if at.host == nil {
		return f.listHosts()
	}
	f.heed(ctx)
	var listed []wire.Entry
	var ids []string
	err = at.ask(ctx, func(s *host.Session) error {
		ids = nil
		listed, err = s.List(ctx, at.path)
		for _, e := range listed {
			ids = append(ids, identity(s, e))
		}
		return err
	})
	switch {
	case errors.Is(err, wire.CodeNotFound):
		return nil, fs.ErrorDirNotFound
	case err != nil:
		return nil, err
	}
	entries := make(fs.DirEntries, 0, len(listed))
	for i, e := range listed {
		e.ID = ids[i]
		f.warn(ctx, e)
		remote := path.Join(dir, f.opt.Enc.ToStandardName(e.Name))
		if e.Kind == wire.KindDir {
			entries = append(entries, fs.NewDir(remote, time.Unix(0, e.ModTime)))
		} else {
			names.saw(e, place{at.host, path.Join(at.path, e.Name)}, time.Now())
			entries = append(entries, f.newObject(remote, e))
		}
	}
	return entries, nil
}

// listHosts lists this machine and the hosts that the ssh config file names.
func (f *Fs) listHosts() (fs.DirEntries, error) {
	known, err := host.Known(f.opt.Config)
	if err != nil {
		return nil, classify(err)
	}
	entries := fs.DirEntries{}
	for _, name := range known {
		entries = append(entries, fs.NewDir(name, time.Time{}))
	}
	return entries, nil
}

// NewObject finds the device or image at remote.
func (f *Fs) NewObject(ctx context.Context, remote string) (fs.Object, error) {
	at, err := f.place(remote)
	if err != nil {
		return nil, err
	}
	if at.host == nil || at.path == "/" {
		return nil, errNoPath
	}
	f.heed(ctx)
	entry, err := f.stat(ctx, at)
	switch {
	case errors.Is(err, wire.CodeNotFound):
		return nil, fs.ErrorObjectNotFound
	case errors.Is(err, wire.CodeNotFile):
		return nil, fmt.Errorf("%w: %w", fs.ErrorNotAFile, err)
	case err != nil:
		return nil, err
	case entry.Kind == wire.KindDir:
		return nil, fs.ErrorIsDir
	}
	f.warn(ctx, entry)
	names.saw(entry, at, time.Now())
	return f.newObject(remote, entry), nil
}

// Put brings the device or image at src.Remote() to the content of in. What
// exists is updated in place, as Update does.
func (f *Fs) Put(ctx context.Context, in io.Reader, src fs.ObjectInfo, options ...fs.OpenOption) (fs.Object, error) {
	o := f.newObject(src.Remote(), wire.Entry{})
	if err := o.Update(ctx, in, src, options...); err != nil {
		return nil, err
	}
	return o, nil
}

// Copy brings the object at remote to the content of src, which is an object of
// this backend on any host, moving only what differs.
func (f *Fs) Copy(ctx context.Context, src fs.Object, remote string) (fs.Object, error) {
	from, ok := src.(*Object)
	if !ok {
		return nil, fs.ErrorCantCopy
	}
	if err := f.refuseBackup(ctx, from, remote); err != nil {
		return nil, err
	}
	o := f.newObject(remote, wire.Entry{})
	if err := o.copyFrom(ctx, from); err != nil {
		return nil, err
	}
	return o, nil
}

// Mkdir makes the directory dir and its parents.
func (f *Fs) Mkdir(ctx context.Context, dir string) error {
	at, err := f.place(dir)
	if err != nil {
		return err
	}
	return at.with(ctx, func(s *host.Session) error { return s.Mkdir(ctx, at.path) })
}

// Rmdir removes the empty directory dir.
func (f *Fs) Rmdir(ctx context.Context, dir string) error {
	at, err := f.place(dir)
	if err != nil {
		return err
	}
	err = at.with(ctx, func(s *host.Session) error { return s.Rmdir(ctx, at.path) })
	switch {
	case errors.Is(err, wire.CodeNotFound):
		return fs.ErrorDirNotFound
	case errors.Is(err, wire.CodeNotEmpty):
		return fs.ErrorDirectoryNotEmpty
	}
	return err
}

// About tells the space of the filesystem that the root of f is on.
func (f *Fs) About(ctx context.Context) (*fs.Usage, error) {
	at, err := f.place("")
	if err != nil {
		return nil, err
	}
	var u wire.Usage
	err = at.ask(ctx, func(s *host.Session) error {
		u, err = s.StatFS(ctx, at.path)
		return err
	})
	if err != nil {
		return nil, err
	}
	used := u.Total - u.Free
	return &fs.Usage{Total: &u.Total, Used: &used, Free: &u.Available}, nil
}

// Shutdown closes what is idle on the host of f. Others that use it connect anew.
func (f *Fs) Shutdown(ctx context.Context) error {
	f.sets.conclude()
	host.CloseIdle()
	return nil
}

var (
	_ fs.Fs         = (*Fs)(nil)
	_ fs.Copier     = (*Fs)(nil)
	_ fs.Abouter    = (*Fs)(nil)
	_ fs.Shutdowner = (*Fs)(nil)
)
