// Package wire is the language between a client and a helper: magic, version,
// limits, frame types, messages and their codec. It does no I/O beyond reading
// and writing frames on a byte stream, and knows no devices. The normative text
// is docs/protocol.md; a test compares its tables with the constants below.
//
// # Flow
//
// The helper speaks first, so that whatever a login shell prints comes before
// the magic and can be skipped:
//
//	helper  Magic Hello
//	client  Magic Hello
//	client  request
//	helper  reply frames ... then Done or Error
//	client  next request ...
//
// One request runs at a time; the next may be sent ahead, it waits its turn.
// Cancel ends the last request sent with Error(cancelled), unless that has ended
// already; the session stays usable. The end of the stream ends everything.
// Where both ends have FeatureAlive, each says from time to time that it is there,
// and silence ends the session.
//
// # Delta
//
// During Send and Receive the two ends of a transfer talk to each other, the
// sender having the source and the receiver the target of one range:
//
//	receiver  Digests     extent digests in order, up to the limit of the last Advance
//	sender    Advance     how many extents are settled and dealt with, digests may come up to the limit
//	sender    Want        the receiver's block digests of an extent, please
//	receiver  Blocks      those, truncated
//	sender    Patch       the runs of an extent that differ, and its whole digest
//	receiver  Applied     the patch was verified and written
//	receiver  Resend      it did not verify: the whole extent, please
//	sender    Finish      root of what the sender read
//	receiver  Finished    the range is durable; root of what the target holds
//
// A comparison is the same with patches that name the runs but lack their
// bytes, and nothing is written.
//
// A sender that goes on after read errors tells Gaps of an extent before it says
// anything else of it. When the target keeps what it has there, they take the place
// of Want.
package wire

// Magic opens both directions. No text contains it: it starts with a zero byte
// and is not valid UTF-8.
const Magic = "\x00\xffblkdev"

// Version is raised only when older peers can no longer be understood;
// everything compatible goes into features and optional frames.
//
//	1  first version
const Version = 1

// Limits in bytes. They are checked before anything is allocated.
const (
	HeaderSize   = 8        // type 1, reserved 3, payload length 4
	MaxControl   = 64 << 10 // payload of every frame but Patch and Data
	MaxBulk      = 1<<20 + MaxControl
	MaxPath      = 4096
	MaxText      = 4096
	MaxName      = 512
	MaxPreamble  = 64 << 10 // what a login may print before the magic
	MaxBatch     = 512      // extent digests in one Digests frame
	MaxWindow    = 4096     // extents between the oldest unsettled and the newest digest
	MaxWait      = 86400000 // milliseconds of the times in Prepare: a day
	MaxDirectory = 32       // entries in one Entries frame, facts in one Properties frame
)

// Features are what an end can do beyond Version.
type Features uint64

// FeatureSharedClaim: several sessions may write one target, proving to each
// other that they belong together.
const FeatureSharedClaim Features = 1 << 0

// FeatureAlive: this end sends Alive, and ends the session when the other does not.
// It holds when both ends have it.
const FeatureAlive Features = 1 << 1

// FeatureTrust: this helper answers Trust.
const FeatureTrust Features = 1 << 2

// Type is the type of a frame.
type Type uint8

// Optional marks frame types that a peer which does not know them skips.
// Unknown types without it end the session.
const Optional Type = 0x80

// Frame types. C is the client, H the helper, S the sender, R the receiver.
const (
	TypeHello    Type = 0x01 // both: version, features, platform
	TypeCancel   Type = 0x02 // C: end the last request sent
	TypeDone     Type = 0x03 // H: the request succeeded
	TypeError    Type = 0x04 // H: the request failed
	TypeNotice   Type = 0x05 // H: a line for the log
	TypeProgress Type = 0x06 // H: a long request is alive, bytes done

	TypeStat     Type = 0x10 // C: path
	TypeList     Type = 0x11 // C: path of a directory
	TypeMkdir    Type = 0x12 // C: path, parents included
	TypeRmdir    Type = 0x13 // C: path of an empty directory
	TypeRemove   Type = 0x14 // C: path of an image file
	TypeSetTime  Type = 0x15 // C: path, time
	TypeStatFS   Type = 0x16 // C: path
	TypeOpen     Type = 0x17 // C: path and how
	TypeClose    Type = 0x18 // C: commit or abort what is open
	TypeRead     Type = 0x19 // C: range of what is open
	TypeHash     Type = 0x1a // C: SHA-256 of what is open
	TypeSend     Type = 0x1b // C: be the sender of a range of what is open
	TypeReceive  Type = 0x1c // C: be the receiver of a range of what is open
	TypeRoot     Type = 0x1d // C: root of a range of what is open
	TypeDescribe Type = 0x1e // C: path
	TypePing     Type = 0x1f // C: a number of bytes

	TypeEntries    Type = 0x20 // H: objects, for Stat and List
	TypeUsage      Type = 0x21 // H: space, for StatFS
	TypeOpened     Type = 0x22 // H: what was opened
	TypeSum        Type = 0x23 // H: SHA-256, for Hash and Root
	TypeSummary    Type = 0x24 // H: counters, for Send and Receive
	TypeProperties Type = 0x25 // H: facts, for Describe
	TypeProof      Type = 0x26 // H: since when nobody has written, for Trust

	TypeData     Type = 0x30 // H: bytes at an offset, for Read and Ping
	TypeHole     Type = 0x31 // H: zeros at an offset, for Read
	TypeWindow   Type = 0x32 // C: more bytes may be sent, for Read
	TypeAdvance  Type = 0x38 // S: what is settled, floor and limit
	TypeDigests  Type = 0x39 // R: extent digests
	TypeWant     Type = 0x3a // S: an extent
	TypeBlocks   Type = 0x3b // R: truncated block digests of an extent
	TypePatch    Type = 0x3c // S: runs of an extent
	TypeApplied  Type = 0x3d // R: an extent
	TypeResend   Type = 0x3e // R: an extent
	TypeFinish   Type = 0x3f // S: root
	TypeFinished Type = 0x40 // R: root

	TypeGaps Type = 0x48 // S, H: places that could not be read

	TypeUndo    Type = 0x50 // C: path and directory of the log
	TypeRecover Type = 0x51 // C: path and directory of the spool
	TypeTrust   Type = 0x52 // C: name of the run, for a proof that nobody has written

	TypePrepare   Type = 0x60 // C: path, and what is to surround its transfer
	TypeConclude  Type = 0x61 // C: end what Prepare has begun
	TypeSnapshots Type = 0x62 // C: list what was taken, or remove one
	TypePrepared  Type = 0x68 // H: what will be read
	TypeKept      Type = 0x69 // H: a snapshot, for Snapshots

	TypeAlive Type = 0x81 // both: the end that sends it is there
)

// IsRequest tells whether frames of this type start a request.
func (t Type) IsRequest() bool {
	return t >= TypeStat && t <= TypePing || t&0xf0 == TypeUndo || t >= TypePrepare && t < TypePrepared
}

// IsKnown tells whether this release has a message for frames of this type.
func (t Type) IsKnown() bool {
	switch {
	case t >= TypeHello && t <= TypeProgress, t >= TypeStat && t <= TypePing, t >= TypeEntries && t <= TypeProof,
		t >= TypeData && t <= TypeWindow, t >= TypeAdvance && t <= TypeFinished, t == TypeGaps, t >= TypeUndo && t <= TypeTrust,
		t >= TypePrepare && t <= TypeSnapshots, t == TypePrepared, t == TypeKept, t == TypeAlive:
		return true
	}
	return false
}

// IsBulk tells whether frames of this type carry device content.
func (t Type) IsBulk() bool { return t == TypePatch || t == TypeData }

// maxPayload is the largest payload that a frame of type t may have.
func (t Type) maxPayload() int {
	if t.IsBulk() {
		return MaxBulk
	}
	return MaxControl
}
