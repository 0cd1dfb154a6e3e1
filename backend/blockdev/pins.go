package blockdev

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	rclone "github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config"
	"github.com/rclone/rclone/fs/operations"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// pin is what is remembered of a device that was written: one file for each, so
// that several processes need no lock.
type pin struct {
	Host  string    `json:"host"`
	Path  string    `json:"path"` // as it was given
	IDs   []string  `json:"ids"`  // that a copy does not change
	Since time.Time `json:"since"`
}

// pinFile is where the pin of p lies: beside rclone's configuration file, since a
// cache may be emptied at any time. Without such a file the cache has to do.
func pinFile(p place) string {
	dir := filepath.Join(config.GetCacheDir(), "blockdev", "pins")
	if file := config.GetConfigPath(); file != "" {
		dir = filepath.Join(filepath.Dir(file), "blockdev-pins")
	}
	sum := sha256.Sum256([]byte(p.host.Address() + "\x00" + p.path))
	return filepath.Join(dir, hex.EncodeToString(sum[:16])+".json")
}

// loadPin returns the pin of p, nil when there is none.
func loadPin(p place) (*pin, error) {
	file := pinFile(p)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var known pin
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	if err == nil && (len(known.IDs) == 0 || slices.Contains(known.IDs, "")) {
		err = errors.New("it names no device")
	}
	if err != nil {
		return nil, refuse("%s: the identity remembered of it in %s cannot be read: when the device is the right one, forget it with the command unpin: %v", p, file, err)
	}
	return &known, nil
}

// savePin remembers the identities of p. When another process did so at the same
// time, its pin counts.
func savePin(p place, ids []string) (*pin, error) {
	file := pinFile(p)
	known := &pin{Host: p.host.Address(), Path: p.path, IDs: ids, Since: time.Now().Round(time.Second)}
	text, err := json.MarshalIndent(known, "", "\t")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = publish(file, text)
	}
	if errors.Is(err, fs.ErrExist) {
		return loadPin(p)
	}
	if err != nil {
		return nil, refuse("%s: its identity cannot be remembered, as pin_ids demands: %v", p, err)
	}
	return known, nil
}

// publish makes a file that does not exist yet: complete or not at all, where the
// file system has links.
func publish(file string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(file), "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := complete(f, content); err != nil {
		return err
	}
	if err = os.Link(f.Name(), file); err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return publishPlain(file, content)
}

// publishPlain is publish without links. One process makes the file; what another
// reads before it is complete is an error there.
func publishPlain(file string, content []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = complete(f, content)
	if err != nil {
		_ = os.Remove(file)
	}
	return err
}

// complete writes all of a file, durably, and closes it.
func complete(f *os.File, content []byte) error {
	_, err := f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// expect fills in which device the target must be.
func (t *target) expect() error {
	t.req.Expect = strings.TrimSpace(t.o.fs.opt.ExpectID)
	if !t.o.fs.opt.PinIDs {
		return nil
	}
	known, err := loadPin(t.at)
	if err == nil && known != nil {
		t.req.Pins = known.IDs
	}
	return err
}

// pin remembers the device that is open: the last step before the first write to
// it. The helper has compared it with what was remembered already.
func (t *target) pin() error {
	opened := t.lead.opened
	if !t.o.fs.opt.PinIDs || opened.Entry.Kind != wire.KindBlock || len(t.req.Pins) > 0 {
		return nil
	}
	ids := opened.IDs[:opened.Lasting]
	if len(ids) == 0 {
		rclone.Logf(t.o, "%s: has no identity that could be remembered: pin_ids would not notice another device in its place", t.at)
		return nil
	}
	known, err := savePin(t.at, ids)
	if err != nil {
		return err
	}
	if known == nil || !slices.Equal(known.IDs, ids) {
		return refuse("%s: another process has remembered another device of that name at the same time", t.at)
	}
	rclone.Logf(t.o, "remembered as the device at %s: %s", t.at, strings.Join(ids, ", "))
	return nil
}

// unpin forgets what is remembered of a device.
func (f *Fs) unpin(ctx context.Context, arg []string, _ map[string]string) (any, error) {
	at, err := f.below(arg[0])
	if err != nil {
		return nil, err
	}
	known, damaged := loadPin(at)
	if known == nil && damaged == nil {
		return nil, fmt.Errorf("%w: nothing is remembered of %s", rclone.ErrorObjectNotFound, at)
	}
	if operations.SkipDestructive(ctx, at, "forget its identity") {
		return known, nil
	}
	if err := os.Remove(pinFile(at)); err != nil {
		return nil, err
	}
	if damaged != nil {
		rclone.Logf(at, "forgotten, though it could not be read: %v", damaged)
		return nil, nil
	}
	return known, nil
}
