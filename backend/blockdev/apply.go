package blockdev

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// applyChoices are the values of the option apply, in the order of the wire.
type applyChoices struct{}

func (applyChoices) Choices() []string {
	return []string{wire.ApplyDirect: "direct", wire.ApplyReflink: "reflink", wire.ApplyAtomic: "atomic"}
}

func (applyChoices) Type() string { return "direct|reflink|atomic" }

// Application is the option apply.
type Application = fs.Enum[applyChoices]

func applyOption() fs.Option {
	return fs.Option{
		Name:    "apply",
		Default: Application(wire.ApplyDirect),
		Help: `How a target becomes what the source is.

"direct" writes in place: a copy that ends early leaves it partly updated.
"reflink" is for image files on XFS and Btrfs: the changes go to a clone, which
shares all blocks with the image and takes its name when it is complete and
durable. Until then, whatever happens, the image is as it was. Devices, and file
systems that cannot clone, are refused. "atomic" is for all targets: what changes
is spooled in the directory spool_dir of the host first, and applied when all of it
is there and durable. A copy that ends before leaves the target as it was; what
ends in the middle of applying is completed by "backend recover", and other copies
with that directory are refused until then. It is not for read_errors = skip.`,
		Examples: []fs.OptionExample{
			{Value: "direct", Help: "Write in place."},
			{Value: "reflink", Help: "Replace an image file by a changed clone."},
			{Value: "atomic", Help: "Spool all changes on the host, then write."},
		},
		Advanced: true,
	}
}

func spoolOption() fs.Option {
	return fs.Option{
		Name: "spool_dir",
		Help: `Directory on the host of the target for what changes, with apply = atomic.

It must exist, on a disk that is not the target, and nobody but root and the user
of the helper may be able to write to it or to exchange it. It needs the space of
all blocks that change, compressed; when that is not there the copy ends and the
target is as it was. What is in it is removed when it was applied.

E.g. "/var/lib/spool".`,
		Advanced: true,
	}
}

// apply sets how the target becomes what the source is.
func (t *target) apply() error {
	opt := &t.o.fs.opt
	t.req.Undo, t.req.Apply = opt.Undo, wire.Application(opt.Apply)
	switch {
	case t.req.Undo != "" && t.req.Apply == wire.ApplyReflink:
		return refuse("%s: undo keeps what is overwritten, and with apply = reflink nothing is: use one of them", t.at)
	case t.req.Undo != "" && t.req.Apply == wire.ApplyAtomic:
		return refuse("%s: undo and apply = atomic cannot be used together: use one of them", t.at)
	case t.req.Apply != wire.ApplyAtomic:
		return nil
	case !strings.HasPrefix(opt.Spool, "/"):
		return refuse("%s: apply = atomic needs spool_dir, the absolute path of a directory on the host, and that is %q", t.at, opt.Spool)
	}
	t.req.Spool = opt.Spool
	rand.Read(t.req.Transfer[:])
	return nil
}

// fillsGaps refuses to keep what the target has where the source cannot be read: the
// spool is to be the whole content.
func (o *Object) fillsGaps(how ReadErrors) error {
	if wire.Application(o.fs.opt.Apply) != wire.ApplyAtomic || wire.ReadErrors(how) != wire.ReadSkip {
		return nil
	}
	return refuse("%s: read_errors = skip and apply = atomic cannot be used together, since what the target becomes would not be known: use one of them", o)
}

// recoverCommand is the command recover.
var recoverCommand = command{
	help: fs.CommandHelp{
		Name:  "recover",
		Short: "End what a copy with apply = atomic has left.",
		Long: `What was spooled completely is applied, and all of it read once more; the content
is "new" then. What was not is removed, and the content is "old". Before anything is
written, all that is to change must be as the copy found or made it: else somebody
has written to it since, and it is refused. When there is nothing to recover, which
is an error, the device is not half written.

` + "```console" + `
rclone backend recover blockdev:host/dev sda -o dir=/var/lib/spool
` + "```",
		Opts: map[string]string{"dir": "Directory of the spool on the host, that of the option spool_dir by default"},
	},
	args: []string{"name"},
	run:  (*Fs).recover,
}

func (f *Fs) recover(ctx context.Context, arg []string, opt map[string]string) (any, error) {
	at, err := f.below(arg[0])
	if err != nil {
		return nil, err
	}
	req := &wire.Recover{}
	req.Path = at.path
	if req.Dir, err = logDir(at, opt, f.opt.Spool, "spool"); err != nil {
		return nil, err
	}
	if operations.SkipDestructive(ctx, at, "recover") {
		return nil, nil
	}
	w := &withLog{at, f.newObject(arg[0], wire.Entry{}), func(which wire.Which) wire.Message {
		req.Which = which
		return req
	}}
	found, err := w.do(ctx)
	if err != nil {
		return nil, explain(err)
	}
	return map[string]string{"host": at.host.String(), "name": arg[0], "content": found["content"]}, nil
}
