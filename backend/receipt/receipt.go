// Package receipt is what a transfer leaves behind for later: which device got what from
// where, in JSON for people and programs, and beside it the manifest of what the target
// holds. The format is in docs/receipts.md.
package receipt

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
)

// Version is that of the format.
const Version = 1

// Names of the two files of a receipt end with these.
const (
	Ext         = ".json"
	ManifestExt = ".manifest"
)

// maxFile bounds what a reader takes, in bytes: a petabyte has 4 million stripes.
const maxFile = 1 << 30

// ErrFormat is what every error about the content of a receipt matches.
var ErrFormat = errors.New("no valid receipt")

// End is one end of a transfer.
type End struct {
	Name string   `json:"name"`          // host:path, or an object as rclone names it
	Kind string   `json:"kind"`          // device, file, or stream
	Size int64    `json:"size"`          // bytes
	IDs  []string `json:"ids,omitempty"` // identities that last; of a source also those of its content
}

// Receipt is of one finished transfer. Sizes are bytes.
type Receipt struct {
	Version     int       `json:"version"`
	Program     string    `json:"program"` // release that wrote it
	Source      End       `json:"source"`
	Target      End       `json:"target"`
	Started     time.Time `json:"started"`
	Ended       time.Time `json:"ended"` // the target was durable
	Size        int64     `json:"size"`  // compared: of the source, or what is common to both
	BlockSize   int       `json:"blockSize"`
	ExtentSize  int       `json:"extentSize"`
	StripeSize  int64     `json:"stripeSize"`
	Scanned     int64     `json:"scanned"`
	Equal       int64     `json:"equal"`
	Changed     int64     `json:"changed"`    // written as data
	Zeroed      int64     `json:"zeroed"`     // made zero
	Sent        int64     `json:"sent"`       // data that was sent, before compression
	Wire        int64     `json:"wire"`       // crossed the network in both directions
	SourceRead  int64     `json:"sourceRead"` // read and hashed
	TargetRead  int64     `json:"targetRead"`
	Root        string    `json:"root"`    // hex, of the target
	Stripes     []string  `json:"stripes"` // roots of its stripes, hex
	Manifest    string    `json:"manifest"`
	ManifestSum string    `json:"manifestSum"` // SHA-256 of that file but for its last 32 bytes, which are it, hex

	Delta string `json:"delta,omitempty"` // object that has the delta to this state, which was read and not written
}

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// check refuses what cannot be a receipt.
func (r *Receipt) check() error {
	if r.Version != Version {
		return broken("it has version %d of the format, this program reads %d", r.Version, Version)
	}
	if err := block.CheckSize(r.BlockSize); err != nil {
		return broken("%v", err)
	}
	if r.ExtentSize != block.ExtentSize || r.StripeSize != block.StripeSize {
		return broken("extents of %d and stripes of %d bytes", r.ExtentSize, r.StripeSize)
	}
	if r.Size < 0 || int64(len(r.Stripes)) != max(1, (r.Size+block.StripeSize-1)/block.StripeSize) {
		return broken("%d stripes in %d bytes", len(r.Stripes), r.Size)
	}
	for _, sum := range append([]string{r.Root, r.ManifestSum}, r.Stripes...) {
		if b, err := hex.DecodeString(sum); err != nil || len(b) != len(block.Digest{}) {
			return broken("%q is no SHA-256 sum", sum)
		}
	}
	if r.Manifest == "" || r.Manifest != filepath.Base(r.Manifest) || strings.ContainsAny(r.Manifest, `/\`) {
		return broken("its manifest %q is not a file beside it", r.Manifest)
	}
	return nil
}

// Read reads the JSON of a receipt from a file. Its manifest is not looked at.
func Read(path string) (*Receipt, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	r := new(Receipt)
	if len(text) > maxFile {
		err = broken("it is too large")
	} else if err = json.Unmarshal(text, r); err != nil {
		err = broken("%v", err)
	} else {
		err = r.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Open reads a receipt and its manifest, which must be the one that it names, and must
// agree with it in all that both say.
func Open(path string) (*Receipt, *manifest.File, error) {
	r, err := Read(path)
	if err != nil {
		return nil, nil, err
	}
	m, err := manifest.Open(filepath.Join(filepath.Dir(path), r.Manifest))
	if err != nil {
		return nil, nil, fmt.Errorf("the manifest of %s: %w", path, err)
	}
	if err := r.agree(m.Manifest); err != nil {
		_ = m.Close()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, m, nil
}

// agree refuses a manifest that is not the one of r.
func (r *Receipt) agree(m *manifest.Manifest) error {
	if m.Size != r.Size || m.Of != r.Target.Size || m.BlockSize != r.BlockSize || Hex(m.Root) != r.Root || Hex(m.Sum) != r.ManifestSum {
		return broken("the manifest %s is not the one that it was written with", r.Manifest)
	}
	roots, err := StripeRoots(m)
	if err != nil {
		return err
	}
	for i, root := range roots {
		if root != r.Stripes[i] {
			return broken("the root of stripe %d is not that of its manifest", i)
		}
	}
	return nil
}

// StripeRoots are the roots of the stripes of a device, in hex.
func StripeRoots(m *manifest.Manifest) (roots []string, err error) {
	for _, s := range block.Stripes(m.Size, m.BlockSize) {
		root, err := m.RootOf(s.Offset, s.Length)
		if err != nil {
			return nil, err
		}
		roots = append(roots, Hex(root))
	}
	return roots, nil
}

// Hex is a digest as receipts have it.
func Hex(d block.Digest) string { return hex.EncodeToString(d[:]) }
