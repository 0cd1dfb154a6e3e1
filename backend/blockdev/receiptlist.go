package blockdev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/backend/receipt"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
)

// receiptLine is a receipt in the list of all of a device.
type receiptLine struct {
	File    string    `json:"file"`
	Ended   time.Time `json:"ended"`
	Source  string    `json:"source"`
	Size    int64     `json:"size"` // bytes, as are all sizes
	Changed int64     `json:"changed"`
	Zeroed  int64     `json:"zeroed"`
	Root    string    `json:"root"`

	// Against the receipt before, null for the first: what differs is more than what was
	// copied when somebody else has written in between.
	Since *receiptChange `json:"since"`
}

// receiptChange is what differs between two receipts, to the extent.
type receiptChange struct {
	Differing int64   `json:"differing"` // bytes
	Ranges    int64   `json:"ranges"`
	List      []Range `json:"list,omitempty"`
}

// receipts lists, shows and compares receipts.
func (f *Fs) receipts(ctx context.Context, arg []string, opt map[string]string) (any, error) {
	at, err := f.below(arg[0])
	if err != nil {
		return nil, err
	}
	dir := opt["dir"]
	if dir == "" {
		if dir, err = f.receiptPath(ctx); err != nil {
			return nil, err
		}
	}
	file := func(key string) string {
		if name := opt[key]; strings.ContainsRune(name, filepath.Separator) || dir == "" {
			return name
		}
		return filepath.Join(dir, opt[key])
	}
	switch {
	case (opt["from"] == "") != (opt["to"] == ""):
		return nil, errors.New("the options from and to belong together")
	case opt["from"] != "":
		return f.compareReceipts(at, file("from"), file("to"))
	case opt["show"] != "":
		return ofDevice(at, file("show"))
	case dir == "":
		return nil, errors.New("where are the receipts? name their directory by the option dir, or set the option receipt of the remote")
	}
	return listReceipts(ctx, at, dir)
}

// ofDevice reads a receipt and refuses one of another device.
func ofDevice(at place, file string) (*receipt.Receipt, error) {
	r, err := receipt.Read(file)
	if name := receiptName(at); err == nil && r.Target.Name != name {
		err = fmt.Errorf("%s: is a receipt of %s, not of %s", file, r.Target.Name, name)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// keptReceipt is a receipt in a file.
type keptReceipt struct {
	file string
	r    *receipt.Receipt
}

// keptReceipts are those of a device in a directory, the oldest first. What cannot be read is said and left out.
func keptReceipts(at place, dir string) ([]keptReceipt, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []keptReceipt
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		if !e.Type().IsRegular() || filepath.Ext(file) != receipt.Ext {
			continue
		}
		r, err := receipt.Read(file)
		if err != nil {
			fs.Logf(nil, "%v", err)
			continue
		}
		if r.Target.Name == receiptName(at) {
			all = append(all, keptReceipt{file, r})
		}
	}
	slices.SortFunc(all, func(a, b keptReceipt) int {
		return cmp.Or(a.r.Ended.Compare(b.r.Ended), strings.Compare(a.file, b.file))
	})
	return all, nil
}

// listReceipts lists those of a device.
func listReceipts(ctx context.Context, at place, dir string) (any, error) {
	all, err := keptReceipts(at, dir)
	if err != nil {
		return nil, err
	}
	lines := []*receiptLine{}
	for _, k := range all {
		r := k.r
		lines = append(lines, &receiptLine{File: k.file, Ended: r.Ended, Source: r.Source.Name, Size: r.Size, Changed: r.Changed, Zeroed: r.Zeroed, Root: r.Root})
	}
	for i, line := range lines {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if i == 0 {
			continue
		}
		if line.Since, err = changed(lines[i-1].File, line.File, false); err != nil {
			fs.Logf(nil, "%v", err)
		}
	}
	return lines, nil
}

// compareReceipts tells what has changed between two.
func (f *Fs) compareReceipts(at place, from, to string) (any, error) {
	a, err := ofDevice(at, from)
	if err != nil {
		return nil, err
	}
	b, err := ofDevice(at, to)
	if err != nil {
		return nil, err
	}
	change, err := changed(from, to, true)
	if err != nil {
		return nil, err
	}
	return struct {
		From     string    `json:"from"`
		To       string    `json:"to"`
		FromTime time.Time `json:"fromEnded"`
		ToTime   time.Time `json:"toEnded"`
		FromSize int64     `json:"fromSize"`
		ToSize   int64     `json:"toSize"`
		*receiptChange
	}{from, to, a.Ended, b.Ended, a.Size, b.Size, change}, nil
}

// changed compares the manifests of two receipts.
func changed(from, to string, list bool) (*receiptChange, error) {
	a, x, err := receipt.Open(from)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	b, y, err := receipt.Open(to)
	if err != nil {
		return nil, err
	}
	defer y.Close()
	if a.BlockSize != b.BlockSize {
		return nil, fmt.Errorf("%s and %s have digests of blocks of %d and %d bytes: they cannot be compared", from, to, a.BlockSize, b.BlockSize)
	}
	c := new(receiptChange)
	differ := &manifest.Ranges{Show: func(off, n int64) {
		if list {
			c.List = append(c.List, Range{off, n})
		}
	}}
	err = manifest.Compare(x.Manifest, y.Manifest, differ)
	c.Differing, c.Ranges = differ.Bytes, differ.Count
	return c, err
}
