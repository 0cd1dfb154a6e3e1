package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// remote is a directory that rclone-blockdev reaches, "blockdev:host/path".
type remote struct {
	rclone rclone
	dir    string
}

// local is the remote for a directory of this machine.
func local(r rclone, dir string) remote {
	return remote{r, "blockdev:localhost" + filepath.ToSlash(dir)}
}

// over is the remote for "user@host:/path" or "user@host:port/path". A device
// is refused: a demonstration writes only images of its own.
func over(ctx context.Context, r rclone, spec string) (remote, error) {
	host, path, ok := strings.Cut(spec, "/")
	host = strings.TrimSuffix(host, ":")
	if !ok || host == "" {
		return remote{}, fmt.Errorf("-ssh %s: write user@host:/directory", spec)
	}
	to := remote{r, "blockdev:" + host + "/" + strings.TrimRight(path, "/")}
	out, _, err := r.run(ctx, "lsjson", "--stat", to.dir)
	if err != nil {
		return remote{}, fmt.Errorf("-ssh %s: %w", spec, err)
	}
	var is struct{ IsDir bool }
	if err := json.Unmarshal([]byte(out), &is); err != nil {
		return remote{}, fmt.Errorf("-ssh %s: unexpected answer of lsjson: %w", spec, err)
	}
	if !is.IsDir {
		return remote{}, fmt.Errorf("-ssh %s: is no directory: the demo writes only image files of its own, name a directory for them", spec)
	}
	return to, nil
}

// file is a name in the directory.
func (p remote) file(name string) string { return strings.TrimRight(p.dir, "/") + "/" + name }

// finish gives an interrupted image its name, by a copy of the empty file, so
// that it can be removed. It tries until ctx ends, since the helper of the copy
// that was interrupted may need a moment to notice.
func (p remote) finish(ctx context.Context, name, empty string) error {
	for {
		_, err := p.rclone.copy(ctx, empty, p.file(name))
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return err
		}
	}
}

// remove removes the image name.
func (p remote) remove(ctx context.Context, name string) error {
	_, _, err := p.rclone.run(ctx, "deletefile", p.file(name))
	return err
}
