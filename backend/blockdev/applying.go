package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/accounting"
	"github.com/rclone/rclone/fs/cache"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/backend/deltafile"
	"github.com/rclone-blockdev/rclone-blockdev/backend/receipt"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

var applyCommand = command{
	help: fs.CommandHelp{
		Name:  "apply",
		Short: "Bring a device or image to the state that a chain of deltas leads to.",
		Long: `The deltas are named as files, the oldest first, or as one folder: then those of its
files that end in .delta and come up to until in the order of their names. What is
before the last full one is not needed.

` + "```console" + `
rclone backend apply blockdev:host/dev sda store:sda -o until=2.delta
rclone backend apply blockdev:host/dev sda store:sda/1.delta store:sda/2.delta
` + "```" + `

All deltas are read and verified before anything is written: that each is whole, and
that each follows the one before. When the first one is not full, the target must
hold the state that it is based on, which is computed on its host, else it is
refused. Only what differs is written, and at the end the target is proved to hold
the state of the last delta. A target that was partly updated, when an apply was
interrupted, is accepted with continue=true: if all that the deltas do not bring is
there already.`,
		Opts: map[string]string{
			"until":    "Name of the last delta of a folder to apply",
			"continue": "true to complete an apply that was interrupted",
		},
	},
	args: []string{"name", "remote:path of deltas"},
	more: true,
	run:  (*Fs).apply,
}

// applyResult is what the command apply prints. Sizes are bytes.
type applyResult struct {
	Root    string `json:"root"` // of what the target holds, hex
	Size    int64  `json:"size"`
	Deltas  int    `json:"deltas"` // used
	First   string `json:"first"`
	Last    string `json:"last"`
	Equal   int64  `json:"equal"`
	Changed int64  `json:"changed"` // written
	Zeroed  int64  `json:"zeroed"`
	Wire    int64  `json:"wire"`
	Receipt string `json:"receipt,omitempty"` // file
}

// apply applies a chain of deltas.
func (f *Fs) apply(ctx context.Context, arg []string, opt map[string]string) (any, error) {
	at, err := f.below(arg[0])
	if err != nil {
		return nil, err
	}
	again, ok := opt["continue"]
	if ok && again != "true" && again != "false" {
		return nil, fmt.Errorf("option continue: %q is neither true nor false", again)
	}
	links, err := findDeltas(ctx, arg[1:], opt["until"])
	if err != nil {
		return nil, err
	}
	chain, err := deltafile.Load(links)
	if err != nil {
		return nil, err
	}
	defer chain.Close()
	if skipped := len(links) - chain.Used; skipped > 0 {
		fs.Infof(f, "%s is full: the %d deltas before it are not needed", chain.First, skipped)
	}
	res := &applyResult{Root: receipt.Hex(chain.Root), Size: chain.Size, Deltas: chain.Used, First: chain.First, Last: chain.Last}
	if !chain.Full() {
		there, err := baseOf(ctx, at, chain, again == "true")
		if err != nil {
			return nil, err
		}
		if there {
			fs.Infof(f, "%s holds the state of %s already", at, chain.Last)
			res.Equal = chain.Size
			return res, nil
		}
	}
	o, err := f.toWrite(ctx, arg[0])
	if err != nil {
		return nil, explain(err)
	}
	if operations.SkipDestructive(ctx, at.String(), "apply deltas") { // which were verified
		return res, nil
	}
	plan := &Plan{BlockSize: chain.BlockSize, Done: func(did Outcome) {
		res.Equal, res.Changed, res.Zeroed, res.Wire, res.Receipt = did.Equal, did.Changed, did.Zeroed, did.Wire, did.Receipt
	}}
	return res, o.deliver(WithPlan(ctx, plan), chain)
}

// findDeltas finds the deltas that are to be applied, in order.
func findDeltas(ctx context.Context, remotes []string, until string) (links []deltafile.Link, err error) {
	for _, remote := range remotes {
		f, err := cache.Get(ctx, remote)
		switch {
		case errors.Is(err, fs.ErrorIsFile):
			o, err := findObject(ctx, remote)
			if err != nil {
				return nil, err
			}
			links = append(links, linkTo(ctx, o))
			continue
		case err != nil:
			return nil, fmt.Errorf("%s: %w", remote, err)
		case len(remotes) > 1:
			return nil, refuse("%s: is missing, or a folder: name one folder, or files that are there", remote)
		}
		return inFolder(ctx, f, remote, until)
	}
	if until != "" {
		return nil, refuse("the option until is for the deltas of a folder: leave the later ones out")
	}
	return links, nil
}

// inFolder finds the deltas in a folder, up to one, in the order of their names.
func inFolder(ctx context.Context, f fs.Fs, remote, until string) (links []deltafile.Link, err error) {
	entries, err := f.List(ctx, "")
	if errors.Is(err, fs.ErrorDirNotFound) {
		return nil, refuse("%s: is missing: name files that are there, or a folder of deltas", remote)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", remote, err)
	}
	var names []string
	found := map[string]fs.Object{}
	for _, e := range entries {
		if o, ok := e.(fs.Object); ok && strings.HasSuffix(o.Remote(), deltafile.Ext) {
			names = append(names, o.Remote())
			found[o.Remote()] = o
		}
	}
	slices.Sort(names)
	if until != "" {
		i, there := slices.BinarySearch(names, until)
		if !there {
			return nil, refuse("%s: has no delta %q", remote, until)
		}
		names = names[:i+1]
	}
	if len(names) == 0 {
		return nil, refuse("%s: has no files that end in %s", remote, deltafile.Ext)
	}
	for _, name := range names {
		links = append(links, linkTo(ctx, found[name]))
	}
	return links, nil
}

func linkTo(ctx context.Context, o fs.Object) deltafile.Link {
	name := o.Remote()
	if f, ok := o.Fs().(fs.Fs); ok {
		name = storedName(f, name)
	}
	return deltafile.Link{Name: name, Open: func() (io.ReadCloser, error) {
		in, err := operations.Open(ctx, o)
		if err != nil {
			return nil, err
		}
		tr := accounting.Stats(ctx).NewTransfer(o, nil)
		return &download{ctx, tr.Account(ctx, in).WithBuffer(), tr, nil}, nil
	}}
}

// download is a delta that is read, in rclone's statistics and within its limits.
type download struct {
	ctx context.Context
	*accounting.Account
	tr  *accounting.Transfer
	err error
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.Account.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		d.err = err
	}
	return n, err
}

// Close ends the transfer too.
func (d *download) Close() error {
	err := d.Account.Close()
	d.tr.Done(d.ctx, errors.Join(d.err, err))
	return err
}

// baseOf tells whether the target holds the last state of the chain already, and refuses
// one that does not hold the state that it begins with. With partly it may be what an
// apply has left that was interrupted: whatever the deltas do not bring must be there.
func baseOf(ctx context.Context, at place, chain *deltafile.Chain, partly bool) (there bool, err error) {
	l, err := openSource(ctx, at)
	if err != nil {
		return false, explain(err)
	}
	defer l.close()
	n := l.opened.Size
	if grown := n == chain.Size && !partly; l.opened.Entry.Kind == wire.KindBlock && (grown || fs.GetConfig(ctx).IgnoreSize) {
		n = min(n, chain.BaseSize) // a device has the size of the last state before it has its content
	}
	state := chain.Range()
	lacks := int64(-1) // first extent that nobody has
	r := block.Range{Length: n, BlockSize: chain.BlockSize}
	root, err := l.s.Digests(ctx, r, func(i int64, d block.Digest) error {
		if i >= state.Extents() || lacks >= 0 {
			return nil
		}
		has, err := chain.Has(i)
		if err != nil || has {
			return err
		}
		want, err := chain.Digest(i)
		_, have := r.Extent(i)
		if _, length := state.Extent(i); d != want || have != length {
			lacks = i
		}
		return err
	})
	for i := r.Extents(); err == nil && lacks < 0 && i < state.Extents(); i++ {
		var has bool
		if has, err = chain.Has(i); !has {
			lacks = i
		}
	}
	switch {
	case err != nil:
		return false, explain(err)
	case root == chain.BaseRoot && n == chain.BaseSize:
		return false, nil
	case root == chain.Root && n == chain.Size:
		return true, nil
	case !partly:
		return false, refuse("%s does not hold the state that %s is based on: its root is %x, not %x, with %d of %d bytes: apply the deltas before it as well; if an apply was interrupted, -o continue=true completes it",
			at, chain.First, root, chain.BaseRoot, n, chain.BaseSize)
	case lacks >= 0:
		return false, refuse("%s holds neither the state that %s is based on nor what an interrupted apply has left: the MiB at byte %d is another one", at, chain.First, lacks*block.ExtentSize)
	}
	return false, nil
}
