package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/lib/env"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/backend/receipt"
	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
)

func receiptOption() fs.Option {
	return fs.Option{
		Name: "receipt",
		Help: `Directory in which each copy to a device or image leaves a receipt.

A receipt is a JSON file that says which device got what from where, with the
identities and sizes of both, what was compared and moved, and the sums of what
the target holds now; and a manifest beside it, of 32 bytes for each MiB. With it
"backend verify" and the helper check the device later without the source, and
"backend receipts" tells what has changed between two of them. The directory is on
this machine, and is made when it does not exist.

E.g. "/var/lib/receipts".` + env.ShellExpandHelp,
		Advanced: true,
	}
}

// receipting collects the receipt of a transfer.
type receipting struct {
	keeper  *receipt.Keeper
	source  receipt.End
	started time.Time
}

// errReceipt is for what failed after the target was complete.
var errReceipt = errors.New("the target is complete, but has no receipt")

// receiptPath is where the receipt of a copy is to be: a directory, or a file that a
// program asked for; empty for none.
func (f *Fs) receiptPath(ctx context.Context) (string, error) {
	if file := planOf(ctx).Receipt; file != "" {
		return file, nil
	}
	if f.opt.Receipt == "" {
		return "", nil
	}
	dir := env.ShellExpand(f.opt.Receipt)
	return dir, os.MkdirAll(dir, 0o700)
}

// receiptName is a device or image in receipts.
func receiptName(p place) string { return p.host.Address() + ":" + p.path }

// keepReceipt begins the receipt, where one is wanted: the last step before the first
// write, since without a place for it nothing is to be written. size is that of the
// source.
func (t *target) keepReceipt(ctx context.Context, source func() receipt.End, size int64, blockSize int, started time.Time) error {
	file, err := t.o.fs.receiptPath(ctx)
	if err == nil && file == "" {
		return nil
	}
	var k *receipt.Keeper
	if err == nil {
		k, err = receipt.Keep(file, min(size, t.lead.opened.Size), blockSize)
	}
	if err != nil {
		return once(ctx, refuse("%s: the receipt cannot be written: %v", t.at, err))
	}
	t.receipt = &receipting{keeper: k, source: source(), started: started}
	t.keep(t.lead)
	return nil
}

// keep has what a session writes taken down in the receipt.
func (t *target) keep(l *lease) {
	if t.receipt != nil {
		l.s.Keep(t.receipt.keeper.Add)
	}
}

// endReceipt gives up what was collected, if it is not written.
func (t *target) endReceipt() {
	if t.receipt != nil {
		t.receipt.keeper.Close()
	}
}

// writeReceipt writes the receipt of a target that is complete, and tells where it is.
func (t *target) writeReceipt(ctx context.Context, report *report) (file string, err error) {
	if t.receipt == nil {
		return "", nil
	}
	if report.outcome().Unreadable.Count > 0 {
		fs.Logf(t.o, "no receipt: the source could not be read as a whole")
		return "", nil
	}
	opened := t.lead.opened
	r := &receipt.Receipt{Program: helper.Version(), Source: t.receipt.source, Started: t.receipt.started, Ended: time.Now(),
		Target: receipt.End{Name: receiptName(t.at), Kind: kindName(t.o.entry), Size: t.o.entry.Size, IDs: opened.IDs[:opened.Lasting]}}
	report.receipt(r)
	h := manifest.Header{Time: r.Ended, Path: r.Target.Name, IDs: r.Target.IDs}
	file, err = t.receipt.keeper.Write(r, h)
	if err != nil {
		return "", once(ctx, fmt.Errorf("%s: %w: %w", t.at, errReceipt, err))
	}
	fs.Infof(t.o, "receipt: %s", file)
	return file, nil
}

// receipt fills in what was counted.
func (r *report) receipt(to *receipt.Receipt) {
	all := r.outcome()
	r.mu.Lock()
	defer r.mu.Unlock()
	to.Scanned, to.Equal, to.Changed, to.Zeroed, to.Wire = all.Scanned, all.Equal, all.Changed, all.Zeroed, all.Wire
	to.Sent, to.SourceRead, to.TargetRead = r.res.Sender.Data, r.res.Sender.Scanned, r.res.Receiver.Scanned
}

// receiptEnd is the source of a copy between helpers. That its identities are not known
// is no reason not to copy it.
func (l *lease) receiptEnd(ctx context.Context, from place) receipt.End {
	e := receipt.End{Name: receiptName(from), Kind: kindName(l.opened.Entry), Size: l.opened.Size}
	found, err := describe(ctx, from, true)
	if err != nil {
		fs.Debugf(nil, "%s: no identities for the receipt: %v", from, err)
	}
	e.IDs, _ = values(found)["ids"].([]string)
	return e
}

// streamEnd is a source of another remote.
func streamEnd(src fs.ObjectInfo) receipt.End {
	name := src.Remote()
	if f := src.Fs(); f != nil {
		name = f.Name() + ":" + path.Join(f.Root(), name)
	}
	return receipt.End{Name: name, Kind: "stream", Size: src.Size()}
}

// verifyReceipt compares a device with a receipt, without the source.
func (f *Fs) verifyReceipt(ctx context.Context, name, file string) (any, error) {
	at, err := f.below(name)
	if err != nil {
		return nil, err
	}
	r, m, err := receipt.Open(file)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	l, err := openSource(ctx, at)
	if err != nil {
		return nil, explain(err)
	}
	defer l.close()
	if size := l.opened.Size; size != r.Size && size != r.Target.Size {
		return nil, fmt.Errorf("%s differs from the receipt of %s: it has %d bytes, not %d", at, r.Target.Name, size, r.Target.Size)
	}
	warnOfOther(at, r, l.receiptEnd(ctx, at).IDs)
	differ := &manifest.Ranges{}
	differ.Show = func(off, n int64) {
		if differ.Count <= mostNamed {
			fs.Logf(nil, "%s: at byte %d: %d bytes differ", at, off, n)
		}
	}
	if err := compareManifest(ctx, l.s, m.Manifest, differ); err != nil {
		return nil, explain(err)
	}
	switch {
	case differ.Count > mostNamed:
		fs.Logf(nil, "%s: %d more ranges differ", at, differ.Count-mostNamed)
		fallthrough
	case differ.Count > 0:
		return nil, fmt.Errorf("%s differs from the receipt of %s: %v in %d ranges of %v", at, r.Ended.Format(time.RFC3339), fs.SizeSuffix(differ.Bytes), differ.Count, fs.SizeSuffix(m.Size))
	}
	return struct {
		Equal bool `json:"equal"`
		rootResult
		Receipt string    `json:"receipt"`
		Ended   time.Time `json:"ended"` // the copy that it is of
	}{true, rootResult{r.Root, r.Size, r.BlockSize}, file, r.Ended}, nil
}

// mostNamed is how many ranges are named on lines of their own.
const mostNamed = 100

// compareManifest compares what is open with a manifest.
func compareManifest(ctx context.Context, s *host.Session, m *manifest.Manifest, differ *manifest.Ranges) error {
	r := m.Range()
	_, err := s.Digests(ctx, r, func(i int64, d block.Digest) error {
		want, err := m.Digest(i)
		if off, length := r.Extent(i); err == nil && d != want {
			differ.Add(off, int64(length))
		}
		return err
	})
	differ.End()
	return err
}

// warnOfOther says that a receipt is of another device. That may be meant, for a copy of
// it.
func warnOfOther(at place, r *receipt.Receipt, ids []string) {
	known := func(id string) bool { return slices.Contains(r.Target.IDs, id) }
	if len(r.Target.IDs) == 0 || len(ids) == 0 || slices.ContainsFunc(ids, known) {
		return
	}
	fs.Logf(nil, "%s: the receipt is of another device, %s: that has the identities %q, this one has %q", at, r.Target.Name, r.Target.IDs, ids)
}
