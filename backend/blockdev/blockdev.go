// Package blockdev is an rclone backend that presents block devices and disk
// images on SSH hosts as objects, and updates them by moving only the blocks
// that differ.
//
// It is a thin adapter: what rclone means by its interfaces is here, the hosts
// are in package host, devices and differences in the helper's packages. It
// opens no device and speaks no protocol itself.
package blockdev

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rclone/rclone/backend/overview"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config"
	"github.com/rclone/rclone/fs/config/configmap"
	"github.com/rclone/rclone/fs/config/configstruct"
	"github.com/rclone/rclone/lib/encoder"
	"github.com/rclone/rclone/lib/env"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Name is the name of the backend, and of the remote that needs no configuration.
const Name = "blockdev"

func init() {
	fs.Register(&fs.RegInfo{
		Name:         Name,
		Description:  "Block devices and disk images on SSH hosts, by changed blocks",
		NewFs:        NewFs,
		Config:       configure,
		CommandHelp:  commandHelp(),
		MetadataInfo: metadataInfo(),
		Options:      slices.Concat(host.Options(), options(), surroundingsOptions()),
		Overview: &overview.BackendConfig{
			Backend: Name, Name: "Blockdev", Tier: "External", Maintainers: "rclone-blockdev",
			DataIntegrity: "Hash", Performance: "High", Docs: "Full", Security: "High",
			Features: []string{"About", "CanHaveEmptyDirectories", "Command", "Copy", "ReadMetadata", "Shutdown", "SlowHash"},
			Hashes:   []string{"sha256"}, Precision: 1,
		},
	})
	DefaultRemote(Name, Name)
}

// DefaultRemote makes name a remote of the given backend where the user has
// configured none of that name.
func DefaultRemote(name, backend string) {
	_ = config.ErrorConfigFileNotFound // its init, which sets ConfigFileGet, must come before
	get := fs.ConfigFileGet
	fs.ConfigFileGet = func(section, key string) (string, bool) {
		value, ok := get(section, key)
		if !ok && section == name && key == "type" {
			return backend, true
		}
		return value, ok
	}
}

// offered is above 0 while something exists to compare.
var offered atomic.Int32

// OfferHashes makes all remotes offer SHA-256 sums until stop is called, as the
// option hashes does for one. It is for programs and commands whose purpose is to
// compare.
func OfferHashes() (stop func()) {
	offered.Add(1)
	return func() { offered.Add(-1) }
}

// heed offers hashes from now on when ctx asks for checksums. A server keeps an Fs
// for requests with different settings.
func (f *Fs) heed(ctx context.Context) {
	if fs.GetConfig(ctx).CheckSum {
		f.hashes.Store(true)
	}
}

// Options is the configuration of a remote.
type Options struct {
	host.Config
	Surroundings
	Force      string               `config:"force"`
	ExpectID   string               `config:"expect_id"`
	PinIDs     bool                 `config:"pin_ids"`
	Reread     bool                 `config:"reread_partitions"`
	Zero       Zeroing              `config:"zero"`
	Hash       bool                 `config:"hashes"`
	Reference  string               `config:"reference"`
	Chunks     bool                 `config:"multithread_upload"`
	RetryTime  fs.Duration          `config:"retry_time"`
	Resume     Resuming             `config:"resume"`
	Receipt    string               `config:"receipt"`
	ReadErrors ReadErrors           `config:"read_errors"`
	Verify     Verification         `config:"verify"`
	Undo       string               `config:"undo"`
	Apply      Application          `config:"apply"`
	Spool      string               `config:"spool_dir"`
	Enc        encoder.MultiEncoder `config:"encoding"`
}

func options() []fs.Option {
	return []fs.Option{{
		Name: "force",
		Help: `Path of the one device to write although somebody holds it.

A target that is mounted, in use as swap, part of a volume group or RAID, or
open elsewhere is refused. This names the device, as in the command, for which
that is overridden. Everything on it may be lost, and whoever holds it will see
it change under them.

E.g. "/dev/sdb".`,
		Advanced: true,
	}, {
		Name: "expect_id",
		Help: `Identity that a target must have to be written.

Serial number, WWN, UUID of the partition (PARTUUID), of the logical volume or
of the file system that is on it, as "backend info" prints it under ids, with or
without the key. Any other target is refused before anything is written, whatever
its path. "force" does not override this.

A copy replaces the file system and so its UUID: the value must then be that of
the source as well, or the next copy is refused.

E.g. "serial=S5Y1NX0R123456".`,
		Advanced: true,
	}, {
		Name: "pin_ids",
		Help: `Remember which device was written, and refuse another one in its place.

At the first copy to a device its serial number, WWN and the like are stored beside
rclone's configuration file, for the host and the path as they were given. Later a
device that lacks any of them is refused. The command "unpin" forgets them. A
notice says what is remembered, and when a device has no identity; image files are
not remembered. The first copy with another configuration file takes any device.`,
		Default:  false,
		Advanced: true,
	}, {
		Name: "reread_partitions",
		Help: `Have the kernel read the partition table of a disk after it was written.

Otherwise Linux goes on with the partitions that the disk had before. A line of
the log says which partitions there are now, or why it did not work: the copy is
complete in any case. Partitions may be mounted automatically then.`,
		Default:  false,
		Advanced: true,
	}, zeroOption(), {
		Name: "hashes",
		Help: `Offer SHA-256 sums to rclone.

Without it, rclone is told that there are no hashes, so that a sync reads each
side once. With it, or with --checksum, the hosts compute SHA-256 sums for every
comparison that rclone makes. "hashsum" works in both cases.`,
		Default:  false,
		Advanced: true,
	}, {
		Name: "reference",
		Help: `Path of a local file that is like what is read.

Reading an object then moves only the blocks that differ from this file: an
older copy, a template, or the image that the copy replaces. A directory stands
for the files in it that have the paths of the objects below the remote. What
is not there is read as a whole. Devices work as well.

E.g. "/backup/vm.img".` + env.ShellExpandHelp,
		Advanced: true,
	}, chunksOption(), retryOption(), resumeOption(), receiptOption(), readErrorsOption(), verifyOption(), undoOption(), applyOption(), spoolOption(), {
		Name:     config.ConfigEncoding,
		Help:     config.ConfigEncodingHelp,
		Advanced: true,
		Default:  encoder.Base,
	}}
}

// Fs is a directory of a host, or the level above the hosts.
type Fs struct {
	name     string
	root     string // as rclone gave it, without a slash at the end
	opt      Options
	features *fs.Features
	hashes   atomic.Bool // SHA-256 is offered
	warned   sync.Once   // of flags that skip devices
	unused   sync.Once   // said that the reference is not used
	sets     sets
}

// NewFs makes the Fs of root. When root is an object, the Fs is that of its
// directory and the error is fs.ErrorIsFile.
func NewFs(ctx context.Context, name, root string, m configmap.Mapper) (fs.Fs, error) {
	f := &Fs{name: name, root: strings.TrimRight(root, "/")}
	if err := configstruct.Set(m, &f.opt); err != nil {
		return nil, err
	}
	f.hashes.Store(f.opt.Hash)
	f.heed(ctx)
	f.features = (&fs.Features{
		CanHaveEmptyDirectories: true,
		ReadMetadata:            true,
		ReadMimeType:            true,
		ServerSideAcrossConfigs: true,
		SlowHash:                true,
		NoMultiThreading:        f.Hashes().Count() > 0 || f.opt.Snapshot != 0, // one pass gives the hash too, and is of one snapshot
		ChunkWriterDoesntSeek:   true,
	}).Fill(ctx, f)
	if !f.opt.Chunks {
		f.features.OpenChunkWriter = nil // rclone would prefer it to Update
	}
	at, err := f.place("")
	if err != nil || at.host == nil || at.path == "/" || strings.HasSuffix(root, "/") {
		return f, err
	}
	entry, err := f.stat(ctx, at)
	switch {
	case errors.Is(err, wire.CodeNotFound):
		return f, nil
	case err != nil:
		return nil, err
	case entry.Kind == wire.KindDir:
		return f, nil
	}
	f.root, _ = path.Split(f.root)
	f.root = strings.TrimRight(f.root, "/")
	return f, fs.ErrorIsFile
}

// warn tells, once, which flag makes rclone skip devices although their content
// may have changed: a device has no time that says anything about it.
func (f *Fs) warn(ctx context.Context, e wire.Entry) {
	ci := fs.GetConfig(ctx)
	flag := ""
	switch {
	case ci.UpdateOlder:
		flag = "--update"
	case ci.SizeOnly:
		flag = "--size-only"
	case ci.IgnoreExisting:
		flag = "--ignore-existing"
	case time.Duration(ci.ModifyWindow) > time.Second:
		flag = "--modify-window"
	case ci.CheckSum:
		flag = "--checksum, when the other side has no SHA-256 sums,"
	}
	if flag == "" || e.Kind != wire.KindBlock {
		return
	}
	f.warned.Do(func() {
		fs.Logf(f, "%s: with %s rclone may skip this device although its content differs: leave the flag out", e.Name, flag)
	})
}
