package blockdev

import (
	"context"
	"fmt"
	"strconv"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func undoOption() fs.Option {
	return fs.Option{
		Name: "undo",
		Help: `Directory on the host of the target in which what is overwritten is kept.

Blocks that a copy is about to change are read, compressed and made durable in a
log there before they are overwritten. "backend undo" brings the device or image
back to what it held before the copy, also before one that was interrupted. The
directory must exist, and what is on it must not be part of the target. Without
space for the log the copy ends before it overwrites what is not kept. Each copy
has a log of its own, which stays until it is undone or removed.

E.g. "/var/lib/undo".`,
		Advanced: true,
	}
}

// undoCommand is the command undo.
var undoCommand = command{
	help: fs.CommandHelp{
		Name:  "undo",
		Short: "Bring a device or image back to what it held before a copy.",
		Long: `The copy must have had the option undo. It may have been interrupted; one that was
completed by the same command is one copy. What the copy wrote is read first: when
anybody else has written there since, nothing is done. Running it again goes on
with an undo that was interrupted, and otherwise takes back the copy before.

` + "```console" + `
rclone backend undo blockdev:host/dev sda -o dir=/var/lib/undo
` + "```",
		Opts: map[string]string{
			"dir":   "Directory of the log on the host, that of the option undo by default",
			"check": "Only compare the device with the log",
			"force": "Also where somebody else has written since",
		},
	},
	args: []string{"name"},
	run:  (*Fs).undo,
}

// undone is what the command undo prints.
type undone struct {
	Host    string `json:"host"`
	Name    string `json:"name"`
	Log     string `json:"log"`
	Begun   string `json:"begun"` // the copy
	Copy    string `json:"copy"`  // complete, interrupted, or undone in part
	Size    int64  `json:"size"`  // that the device had before it
	Kept    int64  `json:"kept"`  // bytes that the copy has overwritten
	Written int64  `json:"written"`
	Undone  bool   `json:"undone"`
}

func (f *Fs) undo(ctx context.Context, arg []string, opt map[string]string) (any, error) {
	at, err := f.below(arg[0])
	if err != nil {
		return nil, err
	}
	req := &wire.Undo{}
	req.Path = at.path
	if req.Dir, err = logDir(at, opt, f.opt.Undo, "log"); err != nil {
		return nil, err
	}
	for name, to := range map[string]*bool{"check": &req.Check, "force": &req.Force} {
		if *to, err = flag(opt, name); err != nil {
			return nil, err
		}
	}
	if !req.Check && operations.SkipDestructive(ctx, at, "undo the last copy to it") {
		return nil, nil
	}
	w := &withLog{at, f.newObject(arg[0], wire.Entry{}), func(which wire.Which) wire.Message {
		req.Which = which
		return req
	}}
	var found map[string]string
	if req.Check {
		found, err = w.look(ctx, wire.Which{})
	} else {
		found, err = w.do(ctx)
	}
	if err != nil {
		return nil, explain(err)
	}
	number := func(key string) int64 {
		n, _ := strconv.ParseInt(found[key], 10, 64)
		return n
	}
	return &undone{Host: at.host.String(), Name: arg[0], Log: found["log"], Begun: found["begun"], Copy: found["copy"],
		Size: number("size"), Kept: number("kept"), Written: number("written"), Undone: !req.Check}, nil
}

// flag is an option that is true when it has no value.
func flag(opt map[string]string, name string) (bool, error) {
	v, ok := opt[name]
	if !ok || v == "" {
		return ok, nil
	}
	set, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("option %s: %q is neither true nor false", name, v)
	}
	return set, nil
}

// partly says what a target is that was not completed, and what completes it.
func (t *target) partly(completes string) string {
	is, begun := "the target is ", "partly updated"
	fresh := t.fresh.Load()
	if fresh {
		begun = "not there yet"
	}
	if t.unsure.Load() {
		is, begun = "the answer to the last step was lost: the target is complete, or ", "not yet"
	}
	switch {
	case t.req.Apply == wire.ApplyReflink:
		return is + "as it was; " + completes
	case t.req.Apply == wire.ApplyAtomic:
		return is + `as it was, or "backend recover" completes it; ` + completes
	case t.req.Undo != "" && !fresh:
		return is + begun + "; " + completes + `, and "backend undo" takes it back`
	}
	return is + begun + "; " + completes
}

// sameCommand is what completes a target after most transfers.
const sameCommand = "the same command completes it"
