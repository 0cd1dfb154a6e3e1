package blocksync

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fspath"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
)

// end is the source or the target.
type end struct {
	typed  string // as the user named it
	f      fs.Fs
	remote string    // its name in f
	obj    fs.Object // nil when it does not exist
	facts  string    // what it is, for people
}

// configured tells whether rclone has a remote of that name, in its file or in the
// environment.
func configured(name string) bool {
	kind, ok := fs.ConfigMap("", nil, name, nil).Get("type")
	return ok && kind != ""
}

// resolve finds where an address leads, and what is there. set are options of the
// backend; those for SSH do not hold for this machine.
func resolve(ctx context.Context, typed string, set map[string]string) (*end, error) {
	at, err := parse(typed, configured)
	if err != nil {
		return nil, err
	}
	e := &end{typed: typed}
	if err := e.open(ctx, at, set); err != nil {
		return nil, err
	}
	return e, e.look(ctx)
}

func (e *end) open(ctx context.Context, at address, set map[string]string) (err error) {
	if at.remote != "" {
		return e.openRemote(ctx, at.remote, set)
	}
	if at.host == host.Localhost {
		set = without(set, "sudo")
	}
	e.f, e.remote, err = opened(blockdev.At(ctx, at.host, at.path, set))
	return err
}

// openRemote opens a remote of any backend. Local files are reached by this backend
// too, whatever the name of their remote is.
func (e *end) openRemote(ctx context.Context, remote string, set map[string]string) error {
	info, _, full, _, err := fs.ConfigFs(remote)
	switch {
	case err != nil:
		return err
	case info.Name == blockdev.Name:
		e.f, e.remote, err = opened(blockdev.Typed(ctx, remote, set))
		return err
	case info.Name == "local":
		at, err := local(filepath.FromSlash(full))
		if err != nil {
			return err
		}
		return e.open(ctx, at, set)
	}
	dir, name, err := fspath.Split(remote)
	if err == nil && name == "" {
		err = wrong("%q: names a directory: name an object", e.typed)
	}
	if err != nil {
		return err
	}
	e.remote = name
	e.f, err = fs.NewFs(ctx, dir)
	return err
}

// opened makes an interface of what may be nil.
func opened(f *blockdev.Fs, remote string, err error) (fs.Fs, string, error) {
	if err != nil {
		return nil, "", err
	}
	return f, remote, nil
}

// look finds out what is there, and how it is called.
func (e *end) look(ctx context.Context) (err error) {
	e.obj, err = e.f.NewObject(ctx, e.remote)
	switch {
	case errors.Is(err, fs.ErrorObjectNotFound):
		e.obj = nil
		return nil
	case errors.Is(err, fs.ErrorIsDir):
		return refuse("%s is a directory: name a device or image file", e.typed)
	case err != nil:
		return err
	}
	e.facts = e.describe(ctx)
	return nil
}

// block is the object where it is of this backend, else nil.
func (e *end) block() *blockdev.Object {
	o, _ := e.obj.(*blockdev.Object)
	return o
}

// ours tells whether the end is reached by this backend.
func (e *end) ours() bool {
	_, ok := e.f.(*blockdev.Fs)
	return ok
}

// device tells whether it is a device.
func (e *end) device() bool { return e.block() != nil && e.block().Device() }

// devices are where nothing is ever created.
var devices = []string{"/dev/", "/proc/", "/sys/"}

// amongDevices is the directory of devices that the name is in, empty when it is in
// none.
func (e *end) amongDevices() string {
	f, ok := e.f.(*blockdev.Fs)
	if !ok {
		return ""
	}
	path := f.HostPath(e.remote)
	for _, dir := range devices {
		if strings.HasPrefix(path, dir) && !strings.HasPrefix(path, "/dev/shm/") { // an ordinary file system
			return dir
		}
	}
	return ""
}

// readErrors is what becomes of places that cannot be read.
func (e *end) readErrors() (how blockdev.ReadErrors) {
	if f, ok := e.f.(*blockdev.Fs); ok {
		how = f.ReadErrors()
	}
	return how
}

// kind is what it is.
func (e *end) kind() string {
	switch {
	case e.device():
		return "device"
	case e.ours():
		return "image"
	}
	return "object"
}

func (e *end) size() int64 {
	if e.obj == nil {
		return 0
	}
	return e.obj.Size()
}

// describe is the size, and what a host knows of a device.
func (e *end) describe(ctx context.Context) string {
	parts := []string{e.kind(), size(e.size())}
	if o := e.block(); o != nil && o.Device() {
		facts, err := o.Metadata(ctx)
		if err != nil {
			fs.Debugf(o, "what it is: %v", err)
		}
		for _, key := range []string{"vendor", "model", "serial", "dm-name"} {
			if v := facts[key]; v != "" {
				parts = append(parts, map[string]string{"serial": "serial ", "dm-name": "volume "}[key]+v)
			}
		}
	}
	return strings.Join(parts, ", ")
}

// String is how messages name it.
func (e *end) String() string {
	if e.obj == nil {
		return e.typed + " (new)"
	}
	return fmt.Sprintf("%s (%s)", e.typed, e.facts)
}

func without(set map[string]string, key string) map[string]string {
	rest := map[string]string{}
	for k, v := range set {
		if k != key {
			rest[k] = v
		}
	}
	return rest
}
