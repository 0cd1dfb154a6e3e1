// Package blocksync is the command blocksync of rclone-blockdev: one copy between a
// device or image and another one, or an object of any remote, with what the users
// of such tools expect around it.
//
// It moves nothing itself. Copies and comparisons are those of package blockdev,
// made through rclone's interfaces; this machine is its host "localhost".
package blocksync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/lib/atexit"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// Options are the flags of the command that rclone does not have. Its own flags
// --dry-run, --ignore-size and --quiet are in its configuration.
type Options struct {
	Truncate   bool
	BlockSize  fs.SizeSuffix
	Verify     bool
	Force      string // path of the device
	Streams    int    // 0 for what is configured
	Sudo       bool
	Compress   *host.Compress       // nil for what is configured
	ReadErrors *blockdev.ReadErrors // nil for what is configured
	JSON       bool
	Yes        bool
	Receipt    string // file or directory
	Map        string // file to draw, empty for none
	MapLayout  string
}

// job is one run of the command.
type job struct {
	opt      Options
	ci       *fs.ConfigInfo
	typed    [2]string // source and target
	view     view
	ask      func(question string) (yes bool, err error) // nil where nobody can answer
	src, dst *end
	asked    bool
	begin    func() // shows the start, and the progress from then on; only the first call counts
	stop     func() // ends that; nil before
	result   result
	chart    *chart // nil for none
}

// result is what was done so far.
type result struct {
	blockdev.Outcome
	size      int64 // of the source, or what is common to both
	blockSize int
	dry       bool
	whole     bool          // a full upload or download, not by blocks
	estimate  time.Duration // of the copy, after a dry run
	root      string        // of both ends, when they were compared
}

// missingError is for an end that does not exist: exit code 4.
type missingError struct{ text string }

func (e missingError) Error() string { return e.text }

func (missingError) Unwrap() error { return fs.ErrorObjectNotFound }

func missing(format string, args ...any) error { return missingError{fmt.Sprintf(format, args...)} }

// refuse is an error that ends with exit code 6.
func refuse(format string, args ...any) error {
	return fserrors.NoRetryError(fmt.Errorf(format, args...))
}

// told tells whether there is a result to show, with err at the end.
func (r *result) told(err error) bool {
	return err == nil || r.Unreadable.Count > 0 || r.dry && r.Scanned > 0
}

// check refuses wrong combinations, without asking anybody.
func (j *job) check() error {
	if err := block.CheckSize(int(j.opt.BlockSize)); err != nil {
		return wrong("--block-size %v: must be a power of two from 512 to 1Mi", j.opt.BlockSize)
	}
	switch {
	case j.opt.Truncate && j.ci.IgnoreSize:
		return wrong("--truncate gives the target the size of the source, --ignore-size lets it have another one: use one of them")
	case j.opt.Verify && j.ci.DryRun:
		return wrong("--verify compares what was copied, and --dry-run copies nothing: use one of them")
	case j.opt.Receipt != "" && j.ci.DryRun:
		return wrong("--receipt tells what was copied, and --dry-run copies nothing: use one of them")
	case j.opt.JSON && quiet(j.ci):
		return wrong("--json prints events and --quiet nothing: use one of them")
	case j.opt.Map == "" && j.opt.MapLayout != "":
		return wrong("--map-layout is for the picture of --map")
	case j.opt.Streams < 0:
		return wrong("--streams %d: at least one is needed", j.opt.Streams)
	}
	for _, typed := range j.typed {
		if _, err := parse(typed, configured); err != nil {
			return err
		}
	}
	if err := j.checkForce(); err != nil {
		return err
	}
	return j.openChart()
}

// checkForce refuses to force another device than the target: the flag names it so
// that a command that is changed in one place does not overwrite the wrong disk.
func (j *job) checkForce() error {
	if j.opt.Force == "" {
		return nil
	}
	to, err := parse(j.typed[1], configured)
	if err != nil {
		return err
	}
	if to.path != j.opt.Force && (to.remote == "" || !strings.HasSuffix(to.remote, j.opt.Force)) {
		return wrong("--force names %s, and the target is %s: both must be the same device", j.opt.Force, j.typed[1])
	}
	return nil
}

// quiet tells whether only errors are wanted.
func quiet(ci *fs.ConfigInfo) bool { return ci.LogLevel <= fs.LogLevelError }

// options are those of the backend for both ends.
func (j *job) options() map[string]string {
	set := map[string]string{}
	if j.opt.Streams > 0 {
		set["streams"] = fmt.Sprint(j.opt.Streams)
	}
	if j.opt.Compress != nil {
		set["compress"] = j.opt.Compress.String()
	}
	if j.opt.ReadErrors != nil {
		set["read_errors"] = j.opt.ReadErrors.String()
	}
	if j.opt.Sudo {
		set["sudo"] = "true"
	}
	return set
}

// run does all. Whatever happens, the view is told the end.
func (j *job) run(ctx context.Context) error {
	j.result.blockSize, j.result.dry = int(j.opt.BlockSize), j.ci.DryRun
	defer atexit.Unregister(atexit.Register(func() { j.chart.draw(j, errInterrupted) }))
	err := j.do(ctx)
	if j.stop != nil {
		j.stop()
	}
	err = cmp.Or(err, j.chart.draw(j, err))
	j.view.end(&j.result, err)
	return err
}

func (j *job) do(ctx context.Context) error {
	if err := j.find(ctx); err != nil {
		return err
	}
	if err := j.fit(); err != nil {
		return err
	}
	j.chart.begin(j)
	if j.ci.DryRun {
		return j.dry(ctx)
	}
	if err := j.copy(ctx); err != nil {
		return err
	}
	return j.verify(ctx)
}

// find looks at both ends.
func (j *job) find(ctx context.Context) (err error) {
	if j.src, err = resolve(ctx, j.typed[0], j.options()); err != nil {
		return err
	}
	if j.src.obj == nil {
		return missing("the source %s does not exist", j.src.typed)
	}
	set := j.options()
	if j.opt.Force != "" {
		set["force"] = j.opt.Force
	}
	j.dst, err = resolve(ctx, j.typed[1], set)
	return err
}

// fit refuses what cannot be meant. Of the sizes of devices the backend speaks.
func (j *job) fit() error {
	src, dst := j.src, j.dst
	switch {
	case !src.ours() && !dst.ours():
		return refuse("neither %s nor %s is a device or image: use copyto", src.typed, dst.typed)
	case src.size() < 0:
		return refuse("the size of the source %s is not known", src.typed)
	case j.opt.Force != "" && !dst.ours(), j.opt.Verify && !(src.ours() && dst.ours()):
		return refuse("--force and --verify are for devices and images, not for other remotes")
	case j.opt.Receipt != "" && !dst.ours():
		return refuse("--receipt is for a target that is a device or image")
	case j.opt.Map != "" && !(src.ours() && dst.ours()):
		return refuse("--map shows what differs between devices or images, and an object of another remote is moved as a whole")
	case j.ci.IgnoreSize && !dst.ours():
		return refuse("--ignore-size: an object of another remote is always replaced as a whole")
	case dst.obj == nil && dst.amongDevices() != "":
		return j.noDevice()
	case dst.obj == nil && !j.opt.Truncate:
		return missing("the target %s does not exist: check the name, or use --truncate to create an image", dst.typed)
	case dst.obj != nil && !dst.device() && dst.size() != src.size() && !j.opt.Truncate && !j.ci.IgnoreSize:
		return refuse("the target %s has %d bytes and the source %d: --truncate gives it the size of the source, --ignore-size syncs what is common to both",
			dst.typed, dst.size(), src.size())
	}
	j.result.size = src.size()
	if j.ci.IgnoreSize {
		j.result.size = min(src.size(), dst.size())
	}
	return nil
}

// noDevice refuses a target that would be a device, were it there.
func (j *job) noDevice() error {
	if j.opt.Truncate {
		return refuse("the target %s does not exist, and nothing is created in %s: check the name", j.dst.typed, j.dst.amongDevices())
	}
	return missing("the target %s does not exist: check the name", j.dst.typed)
}

// verify reads both ends once more.
func (j *job) verify(ctx context.Context) (err error) {
	if !j.opt.Verify {
		return nil
	}
	if err := j.dst.look(ctx); err != nil {
		return err
	}
	if j.dst.obj == nil {
		return missing("the target %s is gone after the copy", j.dst.typed)
	}
	j.view.say("verifying: both ends are read again")
	j.result.root, err = blockdev.Verify(ctx, j.src.block(), j.dst.block())
	return err
}

// errInterrupted is the end of a run that a signal ended.
var errInterrupted = errors.New("interrupted")
