package blockdev

import (
	"context"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/accounting"
	"github.com/rclone/rclone/fs/cache"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// once passes on a refusal that must not make rclone run the whole command again:
// a sync reports what it could not delete, and that it did not delete anything
// because of an error, by errors of its own, without the class of ours. What is
// running goes on, unlike with a fatal error. A command that was to be repeated
// before, for the sake of another object, still is; what fails later is not.
func once(ctx context.Context, err error) error {
	if stats := accounting.Stats(ctx); !stats.HadRetryError() {
		stats.FatalError()
	}
	return err
}

// refuseBackup refuses to move a device out of the way, for --backup-dir and
// --suffix: rclone would copy all of it, and only then learn that it cannot be
// removed.
func (f *Fs) refuseBackup(ctx context.Context, src *Object, remote string) error {
	ci := fs.GetConfig(ctx)
	if src.entry.Kind != wire.KindBlock || ci.BackupDir == "" && ci.Suffix == "" || remote != operations.SuffixName(ctx, src.remote) {
		return nil
	}
	dir := fs.Info(src.fs)
	if ci.BackupDir != "" {
		backup, err := cache.Get(ctx, ci.BackupDir)
		if err != nil {
			return err
		}
		dir = backup
	}
	if !operations.Same(dir, f) {
		return nil
	}
	return once(ctx, refuse("%s: is a block device, which --backup-dir and --suffix cannot move away: leave them out, or copy it to an image before", src.remote))
}
