package blockdev

import (
	"context"
	"maps"
	"path"
	"strings"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config/configmap"
	"github.com/rclone/rclone/lib/encoder"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// What programs use that know this backend, beside rclone's interfaces.

// At is the Fs that has a path of a host, and its name there. Nobody is asked. at is
// "[user@]host[:port]" or host.Localhost; set are options that outrank all others.
func At(ctx context.Context, at, absolute string, set map[string]string) (f *Fs, remote string, err error) {
	info, err := fs.Find(Name)
	if err != nil {
		return nil, "", err
	}
	raw := encoder.MultiEncoder(encoder.EncodeRaw) // the only one that keeps every name
	config := configmap.Simple{"host": at, "encoding": raw.String()}
	if at == host.Localhost { // whatever is configured for others
		config["user"], config["port"] = "", ""
	}
	maps.Copy(config, set)
	return objectAt(ctx, Name, raw.ToStandardPath(absolute), fs.ConfigMap(info.Prefix, info.Options, Name, config))
}

// Typed is At for a remote of this backend as it is typed.
func Typed(ctx context.Context, typed string, set map[string]string) (f *Fs, remote string, err error) {
	_, name, full, m, err := fs.ConfigFs(typed)
	if err != nil {
		return nil, "", err
	}
	m.AddGetter(configmap.Simple(set), configmap.PriorityNormal)
	return objectAt(ctx, name, strings.TrimRight(full, "/"), m)
}

// objectAt is the Fs of the directory that full is in.
func objectAt(ctx context.Context, name, full string, m configmap.Mapper) (*Fs, string, error) {
	dir, leaf := path.Split(full)
	f, err := NewFs(ctx, name, dir+"/", m) // with a slash nobody is asked what it is
	if err != nil {
		return nil, "", err
	}
	if _, err := f.(*Fs).below(leaf); err != nil {
		return nil, "", err
	}
	return f.(*Fs), leaf, nil
}

// HostPath is the path that a name has on its host, empty where there is none.
func (f *Fs) HostPath(remote string) string {
	at, err := f.place(remote)
	if err != nil {
		return ""
	}
	return at.path
}

// ReadErrors is what becomes of places of a source on f that cannot be read.
func (f *Fs) ReadErrors() ReadErrors { return f.opt.ReadErrors }

// Device tells whether the object is a device, not an image file.
func (o *Object) Device() bool { return o.entry.Kind == wire.KindBlock }

// Compare tells what a copy from src to dst would do, without writing anything. The
// options of dst count.
func Compare(ctx context.Context, src, dst *Object) (*Difference, error) {
	from, to, err := both(src, dst)
	if err != nil {
		return nil, err
	}
	return compare(ctx, from, to, dst.fs.opt.Streams, src.fs.opt.ReadErrors, nil)
}

// Verify reads src and dst, and returns the root that they have in common. That they
// differ is an error of no class.
func Verify(ctx context.Context, src, dst *Object) (root string, err error) {
	a, b, err := both(src, dst)
	if err != nil {
		return "", err
	}
	same, err := verify(ctx, a, b)
	return same.Root, err
}

func both(src, dst *Object) (from, to place, err error) {
	if from, err = src.fs.place(src.remote); err == nil {
		to, err = dst.fs.place(dst.remote)
	}
	return from, to, err
}

// Hosts names the hosts that are known on this machine. Nobody is asked.
func Hosts(ctx context.Context) []string {
	f, _, err := At(ctx, host.Localhost, "/x", nil)
	if err != nil {
		return nil
	}
	return host.Named(f.opt.Config)
}

// Paths names what begins with prefix on a host. The user is asked nothing.
func Paths(ctx context.Context, at, prefix string) ([]string, error) {
	f, _, err := At(ctx, at, "/x", nil)
	if err != nil {
		return nil, err
	}
	p, err := f.place("")
	if err != nil {
		return nil, err
	}
	return p.host.Paths(ctx, prefix)
}

// Throughput is the number of bytes in a second that one stream gets through to the
// host of f and back, 0 on this machine.
func (f *Fs) Throughput(ctx context.Context) (rate float64, err error) {
	at, err := f.place("")
	if err != nil || at.host == nil {
		return 0, err
	}
	const size = 4 << 20
	err = at.with(ctx, func(s *host.Session) error {
		if s.Local() {
			return nil
		}
		took, err := s.Ping(ctx, size)
		rate = size / took.Seconds()
		return err
	})
	return rate, err
}
