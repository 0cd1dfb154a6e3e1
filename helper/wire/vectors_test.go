package wire

import (
	"reflect"
	"strings"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// vector is a message and the payload that it must have, written by hand from docs/protocol.md.
type vector struct {
	msg     Message
	payload string
}

const (
	u64zero = "\x00\x00\x00\x00\x00\x00\x00\x00"
	int2    = "\x00\x00\x00\x00\x00\x00\x00\x02"
	int1M   = "\x00\x00\x00\x00\x00\x10\x00\x00"
	minus1  = "\xff\xff\xff\xff\xff\xff\xff\xff"
	maxInt  = "\x7f\xff\xff\xff\xff\xff\xff\xff"
	sumA    = "\xaa\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"
	sumB    = "\xbb\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"
	claimA  = "\xc1\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"
	// entryA is the literal form of testEntry: 2+3 name, 3 kind and flags, 3*8, 4, 2+3 identity.
	entryA = "\x00\x03sda\x02\x00\x01" + int1M + minus1 + u64zero + "\x00\x00\x02\x00" + "\x00\x038:0"
)

var (
	testSumA  = block.Digest([]byte(sumA))
	testSumB  = block.Digest([]byte(sumB))
	testEntry = Entry{Name: "sda", Kind: KindBlock, Rotational: true, Size: 1 << 20, Allocated: -1, SectorSize: 512, ID: "8:0"}
	testClaim = Claim{0xc1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
)

// vectors holds at least one message of every type. The first of a type has all fields set.
var vectors = []vector{
	{&Hello{Version: 1, Features: FeatureSharedClaim, OS: "linux", Arch: "arm64", Build: "v1.2", BootID: "b"},
		"\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x05linux" + "\x00\x05arm64" + "\x00\x04v1.2" + "\x00\x01b"},
	{&Hello{Version: 0xfffe, Features: 1 << 63}, "\xff\xfe" + "\x80\x00\x00\x00\x00\x00\x00\x00" + strings.Repeat("\x00\x00", 4)},
	{&Cancel{}, ""},
	{&Done{}, ""},
	{&Error{Code: CodeIO, Offset: 1 << 20, Text: "bad"}, "\x00\x08" + int1M + "\x00\x03bad"},
	{&Error{Code: 999, Offset: -1}, "\x03\xe7" + minus1 + "\x00\x00"},
	{&Notice{Text: "hi"}, "\x00\x02hi"},
	{&Progress{Done: 1 << 20}, int1M},

	{&Stat{path{"/a"}}, "\x00\x02/a"},
	{&Stat{path{"/\xff\x00"}}, "\x00\x03/\xff\x00"},
	{&List{path{"/a"}}, "\x00\x02/a"},
	{&Mkdir{path{"/a"}}, "\x00\x02/a"},
	{&Rmdir{path{"/a"}}, "\x00\x02/a"},
	{&Remove{path{"/a"}}, "\x00\x02/a"},
	{&SetTime{path{"/a"}, -1}, "\x00\x02/a" + minus1},
	{&StatFS{path{"/a"}}, "\x00\x02/a"},
	{&Open{path: path{"/a"}, Write: true, Lead: true, Force: true, Size: 1 << 20, Claim: testClaim, Expect: "serial=1", Pins: []string{"wwn=2", "x"}, Kind: KindBlock, Zero: ZeroPunch, Direct: DirectOn, Verify: VerifyFull, Undo: "/u"},
		"\x00\x02/a" + "\x01\x01\x00\x01" + int1M + "\xc1\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10" +
			"\x00\x08serial=1" + "\x00\x02\x00\x05wwn=2\x00\x01x" + "\x02\x02\x02\x00\x02\x00\x02/u\x00" + "\x00\x00" + u64zero + u64zero},
	{&Open{path: path{"/a"}, Write: true, Apply: ApplyReflink}, "\x00\x02/a" + "\x01\x00\x00\x00" + u64zero + u64zero + u64zero + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00" + u64zero + u64zero},
	{&Open{path: path{"/a"}, Write: true, IgnoreSize: true}, "\x00\x02/a" + "\x01\x00\x01\x00" + u64zero + u64zero + u64zero + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00" + u64zero + u64zero},
	{&Open{path: path{"/a"}, Direct: DirectAuto, ReadErrors: ReadSkip}, "\x00\x02/a" + "\x00\x00\x00\x00" + u64zero + u64zero + u64zero + "\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00" + "\x00\x00" + u64zero + u64zero},
	{&Open{path: path{"/a"}}, "\x00\x02/a" + "\x00\x00\x00\x00" + u64zero + u64zero + u64zero + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00" + u64zero + u64zero},
	{&Open{path: path{"/a"}, Write: true, Apply: ApplyAtomic, Spool: "/s", Transfer: testClaim}, "\x00\x02/a" + "\x01\x00\x00\x00" + u64zero + u64zero + u64zero + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x02/s" +
		"\xc1\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"},
	{&Close{Commit: true, Reread: true, ModTime: 2}, "\x01\x01" + int2},
	{&Close{ModTime: -1}, "\x00\x00" + minus1},
	{&Read{Offset: 2, Length: 1 << 20, Window: 2, Compress: CompressZstd}, int2 + int1M + int2 + "\x03"},
	{&Hash{}, ""},
	{&Send{span{Offset: 1 << 20, Length: 2, BlockSize: 4096, Window: 2, Share: 4}, CompressS2}, int1M + int2 + "\x00\x00\x10\x00" + int2 + "\x00\x04\x02"},
	{&Send{span{Length: 2, BlockSize: 4096, Window: 2, Compare: true}, CompressAuto}, u64zero + int2 + "\x00\x00\x10\x00" + int2 + "\x01\x00\x00"},
	{&Receive{span{Offset: 1 << 20, Length: 2, BlockSize: 512, Window: 2}}, int1M + int2 + "\x00\x00\x02\x00" + int2 + "\x00\x00"},
	{&Receive{span{Length: 2, BlockSize: 512, Window: 2, Compare: true, Share: 255}}, u64zero + int2 + "\x00\x00\x02\x00" + int2 + "\x01\xff"},
	{&Root{Offset: 1 << 20, Length: 2, BlockSize: 512}, int1M + int2 + "\x00\x00\x02\x00"},
	{&Describe{path{"/a"}, true}, "\x00\x02/a\x01"},
	{&Recover{path{"/a"}, "/s", Which{true, "l"}}, "\x00\x02/a\x00\x02/s\x01\x00\x01l"},
	{&Undo{path{"/a"}, "/u", true, true, Which{false, "l"}}, "\x00\x02/a\x00\x02/u\x01\x01\x00\x00\x01l"},
	{&Ping{Bytes: 1 << 20}, int1M},
	{&Trust{Run: testClaim}, claimA},

	{&Entries{[]Entry{testEntry, {Kind: KindFile, ReadOnly: true, ModTime: 2}}},
		"\x00\x02" + entryA + "\x00\x00\x01\x01\x00" + u64zero + u64zero + int2 + "\x00\x00\x00\x00" + "\x00\x00"},
	{&Entries{[]Entry{}}, "\x00\x00"},
	{&Usage{Total: 1 << 20, Free: 2, Available: 0}, int1M + int2 + u64zero},
	{&Opened{Path: "/p", Size: 2, Shared: true, Entry: testEntry, IDs: []string{"serial=1", "uuid=2"}, Lasting: 2, Content: []string{"ext4"}},
		"\x00\x02/p" + int2 + "\x01" + entryA + "\x00\x02\x00\x08serial=1\x00\x06uuid=2" + int2 + "\x00\x01\x00\x04ext4"},
	{&Sum{testSumA}, sumA},
	{&Summary{Root: testSumA, Scanned: 2, Holes: 1 << 20, Equal: 2, Data: 0, Zeroed: 2}, sumA + int2 + int1M + int2 + u64zero + int2},

	{&Properties{[]Property{{"model", "ST1"}, {"mount", ""}}}, "\x00\x02" + "\x00\x05model" + "\x00\x03ST1" + "\x00\x05mount" + "\x00\x00"},
	{&Properties{[]Property{}}, "\x00\x00"},
	{&Proof{Able: true, Since: testClaim}, "\x01" + claimA + "\x00\x00"},
	{&Proof{Doubt: "no"}, "\x00" + u64zero + u64zero + "\x00\x02no"},

	{&Data{Offset: 2, Encoding: EncodingS2, Data: []byte("xyz")}, int2 + "\x02xyz"},
	{&Hole{Offset: 2, Length: 1 << 20}, int2 + int1M},
	{&Window{Bytes: 2}, int2},
	{&Advance{Settled: 1, Floor: 2, Limit: 1 << 20}, "\x00\x00\x00\x00\x00\x00\x00\x01" + int2 + int1M},
	{&Digests{First: 2, Sums: []byte(sumA + sumB)}, int2 + sumA + sumB},
	{&Want{extent{2}}, int2},
	{&Blocks{Extent: 2, Sums: []byte("abcdefgh")}, int2 + "abcdefgh"},
	{&Patch{Extent: 2, Digest: testSumA, Runs: []Run{{First: 0, Count: 1}, {Zero: true, First: 1, Count: 0x102}}, Data: []byte("xyz")},
		int2 + sumA + "\x00" + "\x00\x02" + "\x00\x00\x00\x00\x01" + "\x01\x00\x01\x01\x02" + "xyz"},
	{&Patch{Extent: 0, Digest: testSumB, Data: []byte{}}, u64zero + sumB + "\x00" + "\x00\x00"},
	{&Patch{Extent: 2, Digest: testSumA, Encoding: EncodingNone, Runs: []Run{{First: 0, Count: 1}}, Data: []byte{}},
		int2 + sumA + "\x01" + "\x00\x01" + "\x00\x00\x00\x00\x01"},
	{&Applied{extent{2}}, int2},
	{&Resend{extent{2}}, int2},
	{&Finish{testSumA}, sumA},
	{&Finished{testSumB}, sumB},
	{&Gaps{Keep: true, List: []Gap{{2, 1 << 20}, {1 << 21, 2}}}, "\x01\x00\x02" + int2 + int1M + "\x00\x00\x00\x00\x00\x20\x00\x00" + int2},
	{&Gaps{List: []Gap{{0, 2}}}, "\x00\x00\x01" + u64zero + int2},

	{&Prepare{path: path{"/a"}, Owner: testClaim, Follow: true, Kind: SnapshotCommand, Group: []string{"/a", "/b"}, Space: "9%", Freeze: []string{"/m"},
		FreezeTime: 2, Grace: 1 << 20, Take: []string{"t", "x"}, Drop: []string{"d"}, Before: []string{"b"}, After: []string{"c"}},
		"\x00\x02/a" + claimA + "\x01\x00\x05" + "\x00\x02\x00\x02/a\x00\x02/b" + "\x00\x029%" + "\x00\x01\x00\x02/m" + int2 + int1M +
			"\x00\x02\x00\x01t\x00\x01x" + "\x00\x01\x00\x01d" + "\x00\x01\x00\x01b" + "\x00\x01\x00\x01c"},
	{&Prepare{path: path{"/a"}, Owner: testClaim, Write: true, Before: []string{"b"}},
		"\x00\x02/a" + claimA + "\x00\x01\x00" + "\x00\x00" + "\x00\x00" + "\x00\x00" + u64zero + u64zero +
			"\x00\x00" + "\x00\x00" + "\x00\x01\x00\x01b" + "\x00\x00"},
	{&Conclude{Owner: testClaim, Failed: true, Wait: true}, claimA + "\x01\x01"},
	{&Snapshots{Remove: "vg/x"}, "\x00\x04vg/x"},
	{&Prepared{Device: "/d", Made: 2}, "\x00\x02/d" + int2},
	{&Kept{ID: "i", Kind: "lvm", Path: "/a", Device: "/d", State: "left", Made: 2},
		"\x00\x01i" + "\x00\x03lvm" + "\x00\x02/a" + "\x00\x02/d" + "\x00\x04left" + int2},

	{&Alive{}, ""},
}

// like returns an empty message of the type of m.
func like(m Message) Message { return reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message) }

// ofType returns an empty message of type t, nil when there is none.
func ofType(t Type) Message {
	for _, v := range vectors {
		if v.msg.Type() == t {
			return like(v.msg)
		}
	}
	return nil
}

// openEnded tells whether the payload of m ends in bytes without a length before them.
func openEnded(m Message) bool {
	switch m.(type) {
	case *Data, *Patch, *Digests, *Blocks:
		return true
	}
	return false
}
