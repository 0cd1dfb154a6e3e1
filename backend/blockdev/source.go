package blockdev

import (
	"context"
	"os"
	"path/filepath"

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
	name := filepath.Join(o.Fs().Root(), o.Remote())
	name, err := filepath.Abs(filepath.FromSlash(encoder.OS.FromStandardPath(filepath.ToSlash(name))))
	if err != nil {
		return nil
	}
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() != o.Size() || !info.ModTime().Equal(o.ModTime(ctx)) {
		return nil
	}
	return &place{host.Get(host.Config{Host: host.Localhost}), name}
}
