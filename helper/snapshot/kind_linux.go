package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// kind is one way to take snapshots.
type kind interface {
	// plan finds the original and names the snapshot of it. It changes nothing, and refuses what take would fail on as
	// far as it can be told.
	plan(ctx context.Context, spec *Spec, path string, now time.Time) (Member, error)
	// take makes the snapshot and fills in its device.
	take(ctx context.Context, spec *Spec, m *Member) error
	// check tells why a snapshot is not, or no longer, what it was taken of.
	check(ctx context.Context, m *Member) error
	// drop removes the snapshot, and nothing that take did not make. One that is not there is removed already.
	drop(ctx context.Context, spec *Spec, m *Member) error
	// orphans finds what take has made of an original, by name and mark alone, or with an empty origin of all of them.
	orphans(ctx context.Context, origin string) ([]Member, error)
}

var kinds = map[string]kind{LVM: lvm{}, LVMThin: lvm{thin: true}, ZFS: zfs{}, Reflink: reflink{}, Command: command{}}

func kindOf(name string) (kind, error) {
	k, ok := kinds[name]
	if !ok {
		return nil, fail(device.ErrUnsupported, "snapshot", "this helper knows no kind of snapshot called %q", name)
	}
	return k, nil
}

// errInUse is for a snapshot that somebody has open.
var errInUse = errors.New("it is in use")

// number is that of the device at path.
func number(path string) (dev uint64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, fmt.Errorf("%s: is no block device", path)
	}
	return st.Rdev, nil
}

// appear is how long a device may take to appear after its program has made it.
const appear = 5 * time.Second

// await waits until one of the paths is a block device.
func await(ctx context.Context, paths ...string) (string, error) {
	for end := time.Now().Add(appear); ; {
		for _, path := range paths {
			if _, err := number(path); err == nil {
				return path, nil
			}
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("there is no device %s %v after it was made", paths[0], appear)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// parseSpace is an amount of space: a percentage of the original, or bytes with one of rclone's suffixes.
func parseSpace(s string) (percent, bytes int64, err error) {
	if p, ok := strings.CutSuffix(s, "%"); ok {
		percent, err = strconv.ParseInt(p, 10, 32)
		if err != nil || percent < 1 || percent > 100 {
			return 0, 0, fmt.Errorf("%q is no percentage from 1%% to 100%%", s)
		}
		return percent, 0, nil
	}
	bytes, err = strconv.ParseInt(s, 10, 64)
	if err != nil || bytes < 1 {
		return 0, 0, fmt.Errorf("%q is neither a number of bytes nor a percentage", s)
	}
	return 0, bytes, nil
}

// exists tells whether anything is at path, links not followed.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
