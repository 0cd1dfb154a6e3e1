package tool

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
)

// side is what a command reads: a device or an image, or a manifest.
type side struct {
	name string         // as it was typed
	obj  *device.Object // nil for a manifest
	man  *manifest.File // nil for a device or an image

	limit int64 // bytes of obj to look at, 0 for all
}

// open opens what a name leads to. A device is never taken for a manifest, whatever is
// on it; "-" is a manifest on standard input, and a pipe is one as well.
func (c *call) open(ctx context.Context, name string) (*side, error) {
	if name == "-" {
		return spool(ctx, func() (*os.File, error) { return c.In, nil }, "standard input")
	}
	if info, err := os.Stat(name); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		return spool(ctx, func() (*os.File, error) { return os.Open(name) }, name)
	}
	if isManifest(name) {
		m, err := manifest.Open(name)
		return &side{name: name, man: m}, err
	}
	if isReceipt(name) {
		m, err := openReceipt(name)
		return &side{name: name, man: m}, err
	}
	return c.openData(name)
}

// What receipts and their manifests are named.
const (
	receiptExt  = ".json"
	manifestExt = ".manifest"
)

// isReceipt tells whether name is a file that is named like a receipt.
func isReceipt(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular() && filepath.Ext(name) == receiptExt
}

// maxReceipt bounds what is read of a receipt, in bytes.
const maxReceipt = 1 << 30

// openReceipt opens the manifest of a receipt, which has all that is needed, and is the
// right one when the receipt names its sum.
func openReceipt(name string) (*manifest.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxReceipt))
	if err != nil {
		return nil, err
	}
	file := strings.TrimSuffix(name, receiptExt) + manifestExt
	m, err := manifest.Open(file)
	if err != nil {
		return nil, err
	}
	if !bytes.Contains(text, []byte(`"`+hexDigest(m.Sum)+`"`)) {
		_ = m.Close()
		return nil, fmt.Errorf("%s: does not name the sum of %s: it is no receipt, or that of another manifest", name, file)
	}
	return m, nil
}

// isManifest tells whether name is a file that says that it is a manifest. Of what
// cannot be read package device says what to do.
func isManifest(name string) bool {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	is, err := manifest.IsFile(name)
	return err == nil && is
}

// spool reads a manifest from a stream. Who writes it may take long: when ctx ends it is
// not waited for, and the read goes with the program.
func spool(ctx context.Context, open func() (*os.File, error), name string) (*side, error) {
	type outcome struct {
		m   *manifest.File
		err error
	}
	ended := make(chan outcome, 1)
	go func() {
		f, err := open() // of a pipe, it waits for who writes
		if err != nil {
			ended <- outcome{nil, err}
			return
		}
		defer f.Close()
		m, err := manifest.Spool(f, name)
		ended <- outcome{m, err}
	}()
	select {
	case o := <-ended:
		return &side{name: name, man: o.m}, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// openData opens a device or an image.
func (c *call) openData(name string) (*side, error) {
	o, err := device.OpenRead(name)
	if err != nil {
		return nil, err
	}
	o.ReadPast(c.direct)
	for _, n := range o.Notices() {
		c.view.notice(n)
	}
	return &side{name: name, obj: o}, nil
}

func (s *side) close() {
	if s.obj != nil {
		_ = s.obj.Close() // it was only read
	} else {
		_ = s.man.Close()
	}
}

func (s *side) size() int64 {
	switch {
	case s.obj == nil:
		return s.man.Size
	case s.limit > 0:
		return s.limit
	}
	return s.obj.Size()
}

// fit looks at no more of a device than a manifest is of, when that is of the first part
// of a device of this size.
func (c *call) fit(data, of *side) {
	if data.obj == nil || of.man == nil || of.man.Size == of.man.Of || data.obj.Size() != of.man.Of {
		return
	}
	data.limit = of.man.Size
	c.view.notice(fmt.Sprintf("%s: the manifest is of the first %d of %d bytes: only these are compared", data.name, of.man.Size, of.man.Of))
}

// source is the device or image as the engine reads it, the first n bytes of which it is
// about to read.
func (c *call) source(ctx context.Context, s *side, n int64) delta.Source {
	if notice := s.obj.FindHoles(ctx, 0, n); notice != "" {
		c.view.notice(notice)
	}
	return helper.Source(s.obj)
}

// unit is the block size to work with: that of the manifests among the sides.
func (c *call) unit(sides ...*side) (int, error) {
	unit := c.blockSize
	for _, s := range sides {
		switch {
		case s.man == nil:
		case unit == 0:
			unit = s.man.BlockSize
		case unit != s.man.BlockSize:
			return 0, &blockSizeError{s.name, s.man.BlockSize, unit}
		}
	}
	if unit == 0 {
		unit = block.DefaultSize
	}
	return unit, nil
}

// identities are what a manifest says of the device at path.
func identities(path string) (ids []string) {
	facts, err := device.Describe(path, true)
	if err != nil {
		return nil // it is open: what is not known is left out
	}
	for _, f := range facts {
		if f.Key == "ids" {
			ids = append(ids, f.Value)
		}
	}
	return ids
}

// full is path from the root on, as far as that can be found out.
func full(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
