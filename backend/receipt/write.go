package receipt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/minio/sha256-simd"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
)

// Keeper collects the digests of a target while a transfer goes on, in any order and as
// often as a range is done again: those of the last time count. They are kept in a file,
// so that memory does not depend on the size, but for a bit for each extent.
type Keeper struct {
	dir  string // of the receipt
	name string // of its files, without the extension; empty to make one at the end
	r    block.Range

	temp string // name of f, where the system cannot remove what is open

	mu   sync.Mutex
	f    *os.File // digest i at i*32; hold mu
	have []uint64 // bit i: there is a digest of extent i; hold mu
}

// Keep begins a receipt of size bytes. path is a directory, in which a name is made, or
// the file to write, which must not exist. That nothing can be written there is an error
// now, before the transfer.
func Keep(path string, size int64, blockSize int) (*Keeper, error) {
	k := &Keeper{dir: path, r: block.Range{Length: size, BlockSize: blockSize}}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		if !strings.HasSuffix(path, Ext) {
			return nil, fmt.Errorf("%s: is no directory, and the name of a receipt ends in %s", path, Ext)
		}
		k.dir, k.name = filepath.Dir(path), strings.TrimSuffix(filepath.Base(path), Ext)
		for _, file := range []string{path, filepath.Join(k.dir, k.name+ManifestExt)} {
			if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("%s: is there already, and a receipt is never replaced: name a new file or a directory", file)
			}
		}
	}
	k.have = make([]uint64, (k.r.Extents()+63)/64)
	var err error
	if k.f, err = os.CreateTemp(k.dir, ".blockdev-*.tmp"); err != nil {
		return nil, err
	}
	if os.Remove(k.f.Name()) != nil { // else it goes with the program, however that ends
		k.temp = k.f.Name()
	}
	return k, nil
}

// Add takes in the digests of range r of the device, all of its extents.
func (k *Keeper) Add(r block.Range, digests []block.Digest) error {
	if r.BlockSize != k.r.BlockSize || r.Offset%block.ExtentSize != 0 || r.Offset+r.Length > k.r.Length ||
		r.Length%block.ExtentSize != 0 && r.Offset+r.Length != k.r.Length || int64(len(digests)) != r.Extents() {
		return fmt.Errorf("internal error: %d digests of bytes %d to %d for a receipt of %d", len(digests), r.Offset, r.Offset+r.Length, k.r.Length)
	}
	first := r.Offset / block.ExtentSize
	b := make([]byte, 0, len(digests)*sha256.Size)
	for _, d := range digests {
		b = append(b, d[:]...)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := k.f.WriteAt(b, first*sha256.Size); err != nil {
		return fmt.Errorf("the receipt cannot be kept: %w", err)
	}
	for i := first; i < first+int64(len(digests)); i++ {
		k.have[i/64] |= 1 << (i % 64)
	}
	return nil
}

// complete refuses a device of which not all was added.
func (k *Keeper) complete() error {
	n := int64(0)
	for _, word := range k.have {
		n += int64(bits.OnesCount64(word))
	}
	if n != k.r.Extents() {
		return fmt.Errorf("internal error: a receipt with digests of %d of %d extents", n, k.r.Extents())
	}
	return nil
}

// Write writes the manifest and then the JSON of r, whose fields of sizes, roots and
// files it fills in. h says what the manifest is of. It returns the path of the JSON.
func (k *Keeper) Write(r *Receipt, h manifest.Header) (path string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.complete(); err != nil {
		return "", err
	}
	name, err := k.fileName(r)
	if err != nil {
		return "", err
	}
	h.Size, h.Of, h.BlockSize = k.r.Length, r.Target.Size, k.r.BlockSize
	file := filepath.Join(k.dir, name+ManifestExt)
	if err := manifest.Store(file, func(w io.Writer) error { return k.manifest(w, h) }); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file) // nothing names it
		}
	}()
	m, err := manifest.Open(file)
	if err != nil {
		return "", err
	}
	defer m.Close()
	r.Version, r.Size, r.BlockSize, r.ExtentSize, r.StripeSize = Version, m.Size, m.BlockSize, block.ExtentSize, block.StripeSize
	r.Root, r.Manifest, r.ManifestSum = Hex(m.Root), name+ManifestExt, Hex(m.Sum)
	if r.Stripes, err = StripeRoots(m.Manifest); err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return "", err
	}
	path = filepath.Join(k.dir, name+Ext)
	return path, manifest.Store(path, func(w io.Writer) error { _, err := w.Write(append(text, '\n')); return err })
}

// manifest writes what was collected. Hold mu.
func (k *Keeper) manifest(w io.Writer, h manifest.Header) error {
	m, err := manifest.NewWriter(w, h)
	if err != nil {
		return err
	}
	if _, err := k.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	in := io.LimitReader(k.f, k.r.Extents()*sha256.Size)
	chunk := make([]byte, 2048*sha256.Size)
	for {
		n, err := io.ReadFull(in, chunk)
		for at := 0; at+sha256.Size <= n; at += sha256.Size {
			if err := m.Add(block.Digest(chunk[at:])); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			_, err := m.Finish()
			return err
		default:
			return err
		}
	}
}

// fileName is the name that was asked for, or one that no receipt has: the device first
// and then the time, so that they sort.
func (k *Keeper) fileName(r *Receipt) (string, error) {
	for at := r.Ended; ; at = at.Add(time.Nanosecond) {
		name := k.name
		if name == "" {
			name = Name(r.Target.Name, at)
		}
		taken := false
		for _, ext := range []string{Ext, ManifestExt} {
			if _, err := os.Lstat(filepath.Join(k.dir, name+ext)); !errors.Is(err, fs.ErrNotExist) {
				taken = true
			}
		}
		switch {
		case !taken:
			return name, nil
		case k.name != "":
			return "", fmt.Errorf("%s: has appeared since, and a receipt is never replaced", filepath.Join(k.dir, name+Ext))
		}
	}
}

// maxName is how much of the name of a device is part of that of a file, in bytes.
const maxName = 100

// Name is the name of a receipt of a device without its extension: letters, digits and
// the like of the device, a sum that tells apart those that look alike then, and the time.
func Name(device string, at time.Time) string {
	safe := strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' || c == '-' || c == '_' {
			return c
		}
		return '_'
	}, device)
	sum := sha256.Sum256([]byte(device))
	safe = strings.TrimLeft(safe[:min(len(safe), maxName)], "._-")
	return fmt.Sprintf("%s-%x-%s", safe, sum[:4], at.UTC().Format("20060102T150405.000000000Z"))
}

// Close ends collecting.
func (k *Keeper) Close() {
	_ = k.f.Close()
	if k.temp != "" {
		_ = os.Remove(k.temp)
	}
}
