// Package device opens the things a transfer reads and writes: block devices
// and disk image files. It is the place where a mistake costs a disk, so the
// refusals are here and every caller obeys them: devices are never created,
// renamed, truncated or removed; nothing is created under /dev, /proc or /sys;
// a target that is mounted, swap, held by a volume manager, attached to a loop
// device or locked by a virtual machine is refused with the holder named; sizes
// are compared before the first write.
//
// An [Object] opened by [OpenWrite] is either the leader of a transfer, which
// claims the target and decides its fate with Commit or Abort, or a follower,
// one of several streams that write other ranges under the leader's claim.
//
// Of the project it imports only package signature, and neither net nor os/user.
package device

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/signature"
)

// Kind tells what a path leads to.
type Kind uint8

// The kinds of things [Stat] and [List] report.
const (
	File  Kind = iota // regular file, taken as a disk image
	Block             // block device (on FreeBSD: a disk's character device)
	Dir
)

// String is the name used in messages.
func (k Kind) String() string {
	switch k {
	case Block:
		return "device"
	case Dir:
		return "directory"
	default:
		return "file"
	}
}

// Info describes a device, an image file or a directory.
type Info struct {
	Name       string // last element of the path as it was given
	Kind       Kind
	Size       int64     // bytes; 0 for directories and for devices without a medium
	ModTime    time.Time // zero for devices
	ReadOnly   bool      // the device refuses writes; always false for files
	Allocated  int64     // bytes on disk, -1 when unknown
	BlockSize  int       // logical sector in bytes, 0 for files
	Rotational bool      // a disk with moving heads: one stream is fastest

	// ID is equal for all names of one object within one boot of its host:
	// "b:8:0" for a device, "f:<device>:<inode>" for a file. Empty where the
	// system does not tell without opening the file.
	ID string
}

// Token names one transfer. The leader draws it at random; followers show it.
// The zero Token is none.
type Token [16]byte

// WriteOptions says what is about to be written and by whom.
type WriteOptions struct {
	Size int64 // bytes of the source, known before anything is written

	// IgnoreSize allows a target of another size: the part common to both is
	// written, the target keeps its size.
	IgnoreSize bool

	// Force writes although somebody else holds the target. The holder is
	// then a notice instead of an error.
	Force bool

	// Expect is an identity that the target must have, Pins are all those that it
	// had when it was written before. Both are for the leader.
	Expect string
	Pins   []string

	// Seen is what the target was when the caller saw it, and must be still; nil
	// when it did not.
	Seen *Kind

	// Zero is how ranges become zero.
	Zero ZeroMode

	// Later leaves an image file the size it has: Resize will give it the right one.
	Later bool

	// Reflink has an image file replaced by a clone of it with the changes, instead of
	// being changed itself. Other targets but new images are refused. Transfer is the
	// same when a transfer opens its target again after a lost connection.
	Reflink  bool
	Transfer Token

	// Guard is asked about what was opened; nil allows everything.
	Guard Guard

	// Prepare is called when everything was checked, and before anything of an
	// existing target is changed; not for a new image. Its error ends the opening.
	Prepare func(*Object) error

	// Claim and Lead: the leader passes a fresh token and Lead; followers pass
	// the same token without Lead. A zero token means a writer that is alone.
	Claim Token
	Lead  bool
}

// follower reports whether o writes under the claim of another opening.
func (o WriteOptions) follower() bool { return !o.Lead && o.Claim != Token{} }

// prepare calls Prepare.
func (o WriteOptions) prepare(target *Object) error {
	if o.Prepare == nil {
		return nil
	}
	return o.Prepare(target)
}

// Object is an open device or image file. ReadAt, WriteAt, Data, Zero and
// Sync may be called from several goroutines at once.
type Object struct {
	f       *os.File
	info    Info
	path    string // what is open; the partial file of a new image
	final   string // name a new image takes at Commit, else empty
	size    int64  // bytes usable through this object
	setSize int64  // size an image file gets at Commit, -1 to keep its own
	align   int64  // unit of I/O the system insists on, 0 for none
	notices []string
	lasting []string          // identities of a target, of the device
	found   []signature.Found // what was on a target

	write    bool
	forced   bool // others may write it too
	torn     bool // others may write it while it is read
	follower bool
	shared   bool // followers can prove the claim

	zero               ZeroMode
	noPunch, noZeroOut atomic.Bool // learned from the first refusal
	thin               thin

	cache  pageCache
	direct direct
	exact  exact
	back   readBack
	clone  clone

	// synced: nothing was written since Sync was called, and it was called. The
	// first call is for what an earlier run may have left in the cache.
	synced    atomic.Bool
	lastWrite atomic.Int64 // of LastWrite

	mu     sync.Mutex
	failed error // first failure of Sync; sticky, since the kernel reports it once
	closed bool
}

// Info describes the object as it was when it was opened.
func (o *Object) Info() Info { return o.info }

// Path is the path that is open. For a new image this is its hidden partial
// file; followers are to open this one.
func (o *Object) Path() string { return o.path }

// Notices are sentences the user should see, such as that the device is mounted
// and the copy may be torn.
func (o *Object) Notices() []string { return o.notices }

// Size is the number of bytes that can be read and written: of a target that
// differs from its source in size, the part common to both.
func (o *Object) Size() int64 { return o.size }

// Shared reports whether followers can open the object under this claim. Some
// network file systems have no locks to prove it with; one stream works there.
func (o *Object) Shared() bool { return o.shared }

// base is the name of an object, as given.
func base(path string) string { return filepath.Base(path) }
