package blockdev

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/cache"
	"github.com/rclone/rclone/fs/fspath"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/backend/receipt"
	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

var deltaCommand = command{
	help: fs.CommandHelp{
		Name:  "delta",
		Short: "Write what has changed on a device or image to a file on any remote.",
		Long: `Since which state is told by a receipt, or by the delta of that state. The device is
read once on its host; only extents of 1 MiB that have changed cross the network and
are stored, without their zeros and compressed. With them the delta has the digests
of the new state, so that the next one can follow, and the receipts of both. Without
since, or with since=none, it is full, and a chain begins with it.

` + "```console" + `
rclone backend delta blockdev:host/dev sda store:sda/1.delta
rclone backend delta -o since=store:sda/1.delta blockdev:host/dev sda store:sda/2.delta
` + "```" + `

With the option receipt of the remote each delta leaves a receipt, and since=latest
follows the last one in the same folder; when there is none the delta is full.

` + "```console" + `
rclone backend delta --blockdev-receipt /var/lib/receipts -o since=latest blockdev:host/dev sda store:sda/3.delta
` + "```",
		Opts: map[string]string{"since": "File of a receipt, delta on a remote, latest, or none"},
	},
	args: []string{"name", "remote:path of the new delta"},
	run:  (*Fs).delta,
}

// deltaResult is what the command delta prints. Sizes are bytes.
type deltaResult struct {
	Delta    string `json:"delta"`
	Bytes    int64  `json:"bytes"` // of the delta
	Full     bool   `json:"full"`
	Since    string `json:"since,omitempty"` // root of the state before, hex
	Root     string `json:"root"`
	Size     int64  `json:"size"`
	Changed  int64  `json:"changed"` // data in extents that have changed
	Zeroed   int64  `json:"zeroed"`  // zeros in extents that have changed
	Extents  int64  `json:"extents"` // stored
	Wire     int64  `json:"wire"`
	Receipt  string `json:"receipt,omitempty"` // file
	tookTime time.Duration
}

// delta writes a delta.
func (f *Fs) delta(ctx context.Context, arg []string, opt map[string]string) (any, error) {
	at, err := f.below(arg[0])
	if err != nil {
		return nil, err
	}
	to, err := newUpload(ctx, arg[1])
	if err != nil || operations.SkipDestructive(ctx, to.full(), "write a delta") {
		return nil, err
	}
	dir, err := f.receiptPath(ctx)
	if err != nil {
		return nil, refuse("%s: the receipt cannot be written: %v", at, err)
	}
	base, err := f.deltaBase(ctx, at, to, opt["since"], dir)
	if err != nil {
		return nil, err
	}
	defer base.close()
	stage, err := os.MkdirTemp(dir, ".blockdev-*.tmp") // in the directory of receipts, where there is one
	if err != nil {
		return nil, refuse("%s: the receipt cannot be written: %v", at, err)
	}
	defer os.RemoveAll(stage)
	c := &collecting{o: f.newObject(arg[0], wire.Entry{}), from: at, base: base, report: &report{start: time.Now()}, name: to.full(), sent: map[int64]*differing{}}
	c.resume = newResume(c.o)
	if c.around, err = f.reading(at); err != nil {
		return nil, err
	}
	done := false
	defer func() { c.around.finish(done) }()
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	defer func() { c.source.close() }()
	if c.keeper, err = receipt.Keep(stage, c.size(), base.blockSize); err != nil {
		return nil, refuse("%s: the receipt cannot be written: %v", at, err)
	}
	defer c.keeper.Close()
	n, err := to.write(ctx, func(w io.Writer) error { return c.write(ctx, w) })
	if err != nil {
		return nil, classify(err)
	}
	done = true
	res := c.result(n)
	if dir != "" {
		if res.Receipt, err = receipt.Publish(c.receipt, dir); err != nil {
			return nil, fmt.Errorf("%s is complete, but its receipt is not kept: %w: the next delta can follow since=%s", to.full(), err, arg[1])
		}
	}
	fs.Infof(c.o, "delta %s: changed %v, zeros in it %v, stored %v, on the wire %v, in %v", to.full(), fs.SizeSuffix(res.Changed),
		fs.SizeSuffix(res.Zeroed), fs.SizeSuffix(n), fs.SizeSuffix(res.Wire), res.tookTime.Round(time.Millisecond))
	return res, nil
}

// result is what was done. n is the size of the delta in bytes.
func (c *collecting) result(n int64) *deltaResult {
	got := c.report.outcome()
	res := &deltaResult{Delta: c.name, Bytes: n, Full: c.base.m == nil, Root: c.root, Size: c.size(), Changed: got.Changed, Zeroed: got.Zeroed,
		Extents: c.w.Records(), Wire: got.Wire, tookTime: got.Took}
	if !res.Full {
		res.Since = receipt.Hex(c.base.m.Root)
	}
	return res
}

// writeReceipt makes the receipt of the state that was read.
func (c *collecting) writeReceipt() error {
	opened := c.source.opened
	end := c.source.receiptEnd(c.ctx, c.from)
	lasting := end
	lasting.IDs = slices.DeleteFunc(slices.Clone(end.IDs), func(id string) bool { return strings.HasPrefix(id, "uuid=") || strings.HasPrefix(id, "ptuuid=") })
	r := &receipt.Receipt{Program: helper.Version(), Source: end, Target: lasting, Started: c.report.start, Ended: time.Now(), Delta: c.name}
	c.report.receipt(r)
	var err error
	c.receipt, err = c.keeper.Write(r, manifest.Header{Time: c.report.start, Path: end.Name, IDs: lasting.IDs, Of: opened.Size})
	c.root = r.Root
	return err
}

// upload is an object that is to be written under a name that it has only when it is
// whole.
type upload struct {
	f    fs.Fs
	leaf string
}

// newUpload finds where a new object is to be, and refuses what is there.
func newUpload(ctx context.Context, remote string) (*upload, error) {
	parent, leaf, err := fspath.Split(remote)
	if err != nil {
		return nil, err
	}
	if leaf == "" {
		return nil, refuse("%s: names a folder: name the file that the delta is to be", remote)
	}
	f, err := cache.Get(ctx, parent)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", remote, err)
	}
	u := &upload{f, leaf}
	switch _, err := f.NewObject(ctx, leaf); {
	case err == nil:
		return nil, refuse("%s: is there already, and a delta is never replaced: name a new file", u.full())
	case !errors.Is(err, fs.ErrorObjectNotFound) && !errors.Is(err, fs.ErrorDirNotFound):
		return nil, refuse("%s: %v", u.full(), err)
	}
	return u, nil
}

// full is the name of the object with its remote.
func (u *upload) full() string { return storedName(u.f, u.leaf) }

// storedName names a file of a remote, in the same way wherever the command is run.
func storedName(f fs.Fs, leaf string) string {
	root := f.Root()
	if f.Features().IsLocal {
		if abs, err := filepath.Abs(filepath.FromSlash(root)); err == nil {
			root = filepath.ToSlash(abs)
		}
	}
	return f.Name() + ":" + path.Join(root, leaf)
}

// write streams what make writes. Where the remote shows an object before it is whole, it
// is written under another name first.
func (u *upload) write(ctx context.Context, make func(w io.Writer) error) (n int64, err error) {
	name := u.leaf
	features := u.f.Features()
	partial := features.PartialUploads && features.Move != nil
	if partial {
		var random [4]byte
		rand.Read(random[:])
		name += "." + hex.EncodeToString(random[:]) + ".partial"
	}
	out, in := io.Pipe()
	made := beside(func() error {
		err := make(in)
		if err != nil {
			// As a text: an error that says that something has ended would be taken for the end.
			in.CloseWithError(errors.New(err.Error()))
			return err
		}
		return in.Close()
	})
	o, err := operations.Rcat(ctx, u.f, name, out, time.Now(), nil)
	out.CloseWithError(errUpload)
	cause := <-made
	switch ended := errors.Is(cause, errUpload) || errors.Is(cause, io.ErrClosedPipe); {
	case err != nil && (cause == nil || ended):
		err = fmt.Errorf("%s: %w", u.full(), err)
	case cause != nil:
		err = cause
	}
	if err == nil && partial {
		if o, err = operations.Move(ctx, u.f, nil, u.leaf, o); err != nil {
			err = fmt.Errorf("%s: %w", u.full(), err)
		}
	}
	if err != nil {
		u.discard(ctx, name)
		return 0, err
	}
	return o.Size(), nil
}

// errUpload is for a delta that the remote does not take any more.
var errUpload = errors.New("the upload has ended")

// beside runs fn while its caller goes on, who gets its error.
func beside(fn func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	return done
}

// discard removes what is left of an upload that failed.
func (u *upload) discard(ctx context.Context, name string) {
	ctx = context.WithoutCancel(ctx)
	o, err := u.f.NewObject(ctx, name)
	if err == nil {
		err = o.Remove(ctx)
	}
	if err != nil && !errors.Is(err, fs.ErrorObjectNotFound) && !errors.Is(err, fs.ErrorDirNotFound) {
		fs.Errorf(u.f, "%s: what is left of the upload could not be removed: %v", name, err)
	}
}
