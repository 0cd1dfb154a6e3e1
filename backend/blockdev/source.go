package blockdev

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/rclone/rclone/backend/local"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/lib/encoder"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
)

// localFile is where a source that is a plain file on this machine lies, or nil.
// Such a source is read directly: in parallel, and without its holes. The local
// backend does not tell the path of an object; what is guessed counts only when
// a regular file of the same size and time is there.
func localFile(ctx context.Context, src fs.ObjectInfo) *place {
	if over, ok := src.(*fs.OverrideRemote); ok {
		src = over.UnWrap()
	}
	o, ok := src.(*local.Object)
	if !ok {
		return nil
	}
	name, err := filepath.Abs(fromStandard(filepath.ToSlash(filepath.Join(o.Fs().Root(), o.Remote()))))
	if err != nil {
		return nil
	}
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() != o.Size() || !info.ModTime().Equal(o.ModTime(ctx)) {
		return nil
	}
	return &place{host.Get(host.Config{Host: host.Localhost}), name}
}

// fromStandard is the name of a local file that rclone knows by path. A root such
// as ".." begins with full-width dots in rclone's standard encoding, and must come
// back as dots, which no file has as its name.
func fromStandard(path string) string {
	dots := []string{}
	for {
		first, rest, more := strings.Cut(path, "/")
		switch first {
		case "\uff0e":
			dots = append(dots, ".")
		case "\uff0e\uff0e":
			dots = append(dots, "..")
		default:
			return filepath.Join(append(dots, filepath.FromSlash(encoder.OS.FromStandardPath(path)))...)
		}
		if path = rest; !more {
			return filepath.Join(dots...)
		}
	}
}
