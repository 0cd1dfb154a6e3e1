package wire

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

func name(m Message) string { return strings.TrimPrefix(fmt.Sprintf("%T", m), "*wire.") }

func TestMessage_Bytes(t *testing.T) {
	for _, v := range vectors {
		t.Run(name(v.msg), func(t *testing.T) {
			if err := v.msg.Validate(); err != nil {
				t.Fatal(err)
			}
			if got := Marshal(nil, v.msg); string(got) != v.payload {
				t.Errorf("marshalled\n%x, not\n%x", got, v.payload)
			}
			got := like(v.msg)
			if err := Unmarshal([]byte(v.payload), got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, v.msg) {
				t.Errorf("unmarshalled %+v, not %+v", got, v.msg)
			}
		})
	}
}

// Every field of a message is set in its first vector, so that one left out of the codec is noticed.
func TestMessage_VectorsAreFull(t *testing.T) {
	seen := map[Type]bool{}
	for _, v := range vectors {
		s := reflect.ValueOf(v.msg).Elem()
		for i := 0; i < s.NumField() && !seen[v.msg.Type()]; i++ {
			zero := s.Field(i).IsZero() && s.Type().Field(i).Name != "empty"
			allowed := map[string]bool{"Patch.Encoding": true, "Usage.Available": true, "Summary.Data": true, "Open.IgnoreSize": true,
				"Open.ReadErrors": true, "Open.Apply": true, "Open.Spool": true, "Open.Transfer": true, "Prepare.Write": true, "Proof.Doubt": true}
			if field := name(v.msg) + "." + s.Type().Field(i).Name; zero && !allowed[field] {
				t.Errorf("%s is zero", field)
			}
		}
		seen[v.msg.Type()] = true
	}
}

func TestMessage_ErrShort(t *testing.T) {
	for _, v := range vectors {
		for n := range len(v.payload) {
			err := Unmarshal([]byte(v.payload[:n]), like(v.msg))
			if openEnded(v.msg) && err == nil {
				continue
			}
			if !errors.Is(err, ErrShort) && !(openEnded(v.msg) && errors.Is(err, ErrInvalid)) {
				t.Errorf("%s: %d of %d bytes: %v", name(v.msg), n, len(v.payload), err)
			}
		}
	}
}

func TestMessage_ErrTrailing(t *testing.T) {
	for _, v := range vectors {
		if openEnded(v.msg) {
			continue
		}
		for _, tail := range []string{"\x00", "\x01", int2} {
			if err := Unmarshal([]byte(v.payload+tail), like(v.msg)); !errors.Is(err, ErrTrailing) {
				t.Errorf("%s: %x behind it: %v", name(v.msg), tail, err)
			}
		}
	}
}

func long(n int) string { return strings.Repeat("x", n) }

// names are so many strings.
func names(n int) []string { return slices.Repeat([]string{"x"}, n) }

// prepare is a Prepare that is valid but for what change does.
func prepare(change func(*Prepare)) *Prepare {
	m := &Prepare{path: path{"/a"}, Owner: testClaim}
	change(m)
	return m
}

// A message that is not valid is refused by both ends, for the same reason.
func TestMessage_Err(t *testing.T) {
	patch := func(runs ...Run) *Patch { return &Patch{Runs: runs} }
	const tooMany = block.MaxPerExtent + 1
	for _, tt := range []struct {
		rule string
		msg  Message
		want error
	}{
		{"os is long", &Hello{OS: long(MaxName + 1)}, ErrTooLong},
		{"arch is long", &Hello{Arch: long(MaxName + 1)}, ErrTooLong},
		{"build is long", &Hello{Build: long(MaxName + 1)}, ErrTooLong},
		{"boot id is long", &Hello{BootID: long(MaxName + 1)}, ErrTooLong},
		{"code 0", &Error{Code: 0, Offset: -1}, ErrInvalid},
		{"offset is below -1", &Error{Code: 1, Offset: -2}, ErrInvalid},
		{"text is long", &Error{Code: 1, Text: long(MaxText + 1)}, ErrTooLong},
		{"text is long", &Notice{Text: long(MaxText + 1)}, ErrTooLong},
		{"bytes are negative", &Progress{Done: -1}, ErrInvalid},

		{"no path", &Stat{}, ErrInvalid}, {"path is long", &Stat{path{long(MaxPath + 1)}}, ErrTooLong},
		{"no path", &List{}, ErrInvalid}, {"path is long", &List{path{long(MaxPath + 1)}}, ErrTooLong},
		{"no path", &Mkdir{}, ErrInvalid}, {"path is long", &Mkdir{path{long(MaxPath + 1)}}, ErrTooLong},
		{"no path", &Rmdir{}, ErrInvalid}, {"path is long", &Rmdir{path{long(MaxPath + 1)}}, ErrTooLong},
		{"no path", &Remove{}, ErrInvalid}, {"path is long", &Remove{path{long(MaxPath + 1)}}, ErrTooLong},
		{"no path", &StatFS{}, ErrInvalid}, {"path is long", &StatFS{path{long(MaxPath + 1)}}, ErrTooLong},
		{"no path", &Describe{}, ErrInvalid}, {"path is long", &Describe{path: path{long(MaxPath + 1)}}, ErrTooLong},
		{"no path", &SetTime{}, ErrInvalid}, {"path is long", &SetTime{path: path{long(MaxPath + 1)}}, ErrTooLong},
		{"no path", &Open{}, ErrInvalid}, {"path is long", &Open{path: path{long(MaxPath + 1)}}, ErrTooLong},
		{"reading as lead", &Open{path: path{"/a"}, Lead: true}, ErrInvalid},
		{"reading whatever the size", &Open{path: path{"/a"}, IgnoreSize: true}, ErrInvalid},
		{"reading by force", &Open{path: path{"/a"}, Force: true}, ErrInvalid},
		{"reading with a size", &Open{path: path{"/a"}, Size: 1}, ErrInvalid},
		{"reading with a claim", &Open{path: path{"/a"}, Claim: Claim{15: 1}}, ErrInvalid},
		{"reading with a way to zero", &Open{path: path{"/a"}, Zero: ZeroWrite}, ErrInvalid},
		{"size is negative", &Open{path: path{"/a"}, Write: true, Size: -1}, ErrInvalid},
		{"reading what is expected", &Open{path: path{"/a"}, Expect: "x"}, ErrInvalid},
		{"reading what was a file", &Open{path: path{"/a"}, Kind: KindFile}, ErrInvalid},
		{"writing a directory", &Open{path: path{"/a"}, Write: true, Kind: KindDir}, ErrInvalid},
		{"reading what was pinned", &Open{path: path{"/a"}, Pins: []string{"x"}}, ErrInvalid},
		{"expecting without lead", &Open{path: path{"/a"}, Write: true, Claim: Claim{1}, Expect: "x"}, ErrInvalid},
		{"pins without lead", &Open{path: path{"/a"}, Write: true, Claim: Claim{1}, Pins: []string{"x"}}, ErrInvalid},
		{"expectation is long", &Open{path: path{"/a"}, Write: true, Expect: long(MaxName + 1)}, ErrTooLong},
		{"pin is long", &Open{path: path{"/a"}, Write: true, Pins: []string{long(MaxName + 1)}}, ErrTooLong},
		{"pin is empty", &Open{path: path{"/a"}, Write: true, Pins: []string{"x", ""}}, ErrInvalid},
		{"too many pins", &Open{path: path{"/a"}, Write: true, Pins: names(MaxDirectory + 1)}, ErrTooLong},
		{"rereading without commit", &Close{Reread: true}, ErrInvalid},
		{"unknown way to read", &Open{path: path{"/a"}, Direct: 3}, ErrInvalid},
		{"unknown read errors", &Open{path: path{"/a"}, ReadErrors: 3}, ErrInvalid},
		{"read errors of a target", &Open{path: path{"/a"}, Write: true, ReadErrors: ReadZero}, ErrInvalid},
		{"a run without a name", &Trust{}, ErrInvalid},
		{"a proof of what cannot be", &Proof{Since: Claim{1}}, ErrInvalid},
		{"a proof with a doubt", &Proof{Able: true, Since: Claim{1}, Doubt: "x"}, ErrInvalid},
		{"doubt is long", &Proof{Doubt: long(MaxText + 1)}, ErrTooLong},
		{"no gaps", &Gaps{}, ErrInvalid},
		{"too many gaps", &Gaps{List: make([]Gap, block.MaxPerExtent+1)}, ErrTooLong},
		{"empty gap", &Gaps{List: []Gap{{2, 0}}}, ErrInvalid},
		{"negative gap", &Gaps{List: []Gap{{-1, 2}}}, ErrInvalid},
		{"gap past all", &Gaps{List: []Gap{{math.MaxInt64, 1}}}, ErrInvalid},
		{"gaps that touch", &Gaps{List: []Gap{{0, 2}, {2, 2}}}, ErrInvalid},
		{"gaps out of order", &Gaps{List: []Gap{{4, 2}, {0, 2}}}, ErrInvalid},
		{"unknown way to verify", &Open{path: path{"/a"}, Write: true, Verify: 3}, ErrInvalid},
		{"unknown way to apply", &Open{path: path{"/a"}, Write: true, Apply: 3}, ErrInvalid},
		{"no spool", &Open{path: path{"/a"}, Write: true, Apply: ApplyAtomic, Transfer: Claim{1}}, ErrInvalid},
		{"no transfer", &Open{path: path{"/a"}, Write: true, Apply: ApplyAtomic, Spool: "/s"}, ErrInvalid},
		{"a transfer for nothing", &Open{path: path{"/a"}, Write: true, Transfer: Claim{1}}, ErrInvalid},
		{"a spool for nothing", &Open{path: path{"/a"}, Write: true, Spool: "/s"}, ErrInvalid},
		{"directory is long", &Open{path: path{"/a"}, Write: true, Apply: ApplyAtomic, Spool: long(MaxPath + 1), Transfer: Claim{1}}, ErrTooLong},
		{"no directory", &Recover{path: path{"/a"}}, ErrInvalid},
		{"reading to apply", &Open{path: path{"/a"}, Apply: ApplyReflink}, ErrInvalid},
		{"a clone with an undo", &Open{path: path{"/a"}, Write: true, Apply: ApplyReflink, Undo: "/u"}, ErrInvalid},
		{"reading to keep", &Open{path: path{"/a"}, Undo: "/u"}, ErrInvalid},
		{"directory is long", &Open{path: path{"/a"}, Write: true, Undo: long(MaxPath + 1)}, ErrTooLong},
		{"no directory", &Undo{path: path{"/a"}}, ErrInvalid}, {"no path", &Undo{Dir: "/u"}, ErrInvalid},
		{"directory is long", &Undo{path: path{"/a"}, Dir: long(MaxPath + 1)}, ErrTooLong},
		{"name is long", &Recover{path: path{"/a"}, Dir: "/u", Which: Which{Log: long(MaxName + 1)}}, ErrTooLong},
		{"reading to verify", &Open{path: path{"/a"}, Verify: VerifyFull}, ErrInvalid},
		{"unknown way to zero", &Open{path: path{"/a"}, Write: true, Zero: 3}, ErrInvalid},
		{"offset is negative", &Read{Offset: -1, Length: 2, Window: 1}, ErrInvalid},
		{"length is negative", &Read{Offset: 2, Length: -1, Window: 1}, ErrInvalid},
		{"end overflows", &Read{Offset: math.MaxInt64, Length: 1, Window: 1}, ErrInvalid},
		{"all is negative", &Read{Offset: math.MinInt64, Length: math.MinInt64, Window: 1}, ErrInvalid},
		{"unknown compression", &Read{Length: 1, Window: 1, Compress: 4}, ErrInvalid},
		{"unknown compression", &Send{span{BlockSize: 512, Window: 1}, 4}, ErrInvalid},
		{"no window", &Read{Length: 1}, ErrInvalid}, {"window is negative", &Read{Window: -1}, ErrInvalid},

		{"unaligned", NewSend(block.Range{Offset: 511, BlockSize: 512}, 1), ErrInvalid},
		{"offset is negative", NewSend(block.Range{Offset: -512, Length: 512, BlockSize: 512}, 1), ErrInvalid},
		{"length is negative", NewReceive(block.Range{Offset: 512, Length: -1, BlockSize: 512}, 1), ErrInvalid},
		{"end overflows", NewReceive(block.Range{Offset: 512, Length: math.MaxInt64 - 511, BlockSize: 512}, 1), ErrInvalid},
		{"block size 0", NewReceive(block.Range{}, 1), ErrInvalid},
		{"block size 513", NewReceive(block.Range{BlockSize: 513}, 1), ErrInvalid},
		{"block size 2 MiB", NewReceive(block.Range{BlockSize: 2 << 20}, 1), ErrInvalid},
		{"block size 2 GiB", &Send{span: span{BlockSize: 1 << 31, Window: 1}}, ErrInvalid},
		{"no window", NewSend(block.Range{BlockSize: 512}, 0), ErrInvalid},
		{"window is negative", NewSend(block.Range{BlockSize: 512}, -1), ErrInvalid},
		{"window is large", NewSend(block.Range{BlockSize: 512}, MaxWindow+1), ErrInvalid},

		{"unaligned", &Root{Offset: 511, BlockSize: 512}, ErrInvalid},
		{"offset is negative", &Root{Offset: -512, Length: 512, BlockSize: 512}, ErrInvalid},
		{"length is negative", &Root{Offset: 512, Length: -1, BlockSize: 512}, ErrInvalid},
		{"end overflows", &Root{Offset: 512, Length: math.MaxInt64 - 511, BlockSize: 512}, ErrInvalid},
		{"block size 0", &Root{}, ErrInvalid}, {"block size 2 GiB", &Root{BlockSize: 1 << 31}, ErrInvalid},
		{"bytes are negative", &Ping{Bytes: -1}, ErrInvalid},
		{"too many properties", &Properties{make([]Property, MaxDirectory+1)}, ErrTooLong},
		{"no key", &Properties{[]Property{{"a", "b"}, {"", "b"}}}, ErrInvalid},
		{"key is long", &Properties{[]Property{{long(MaxName + 1), ""}}}, ErrTooLong},
		{"value is long", &Properties{[]Property{{"a", long(MaxName + 1)}}}, ErrTooLong},

		{"too many entries", &Entries{make([]Entry, MaxDirectory+1)}, ErrTooLong},
		{"kind 0", &Entries{[]Entry{{}}}, ErrInvalid}, {"kind 4", &Entries{[]Entry{{Kind: 4}}}, ErrInvalid},
		{"second entry", &Entries{[]Entry{testEntry, {Kind: 255}}}, ErrInvalid},
		{"size is negative", &Entries{[]Entry{{Kind: 1, Size: -1}}}, ErrInvalid},
		{"allocated is below -1", &Entries{[]Entry{{Kind: 1, Allocated: -2}}}, ErrInvalid},
		{"name is long", &Entries{[]Entry{{Kind: 1, Name: long(MaxName + 1)}}}, ErrTooLong},
		{"id is long", &Entries{[]Entry{{Kind: 1, ID: long(MaxName + 1)}}}, ErrTooLong},
		{"total is negative", &Usage{Total: -1}, ErrInvalid},
		{"free is negative", &Usage{Free: -1}, ErrInvalid},
		{"available is negative", &Usage{Available: -1}, ErrInvalid},
		{"path is long", &Opened{Path: long(MaxPath + 1), Entry: testEntry}, ErrTooLong},
		{"size is negative", &Opened{Size: -1, Entry: testEntry}, ErrInvalid},
		{"entry", &Opened{}, ErrInvalid},
		{"too many ids", &Opened{Entry: testEntry, IDs: names(MaxDirectory + 1)}, ErrTooLong},
		{"id is empty", &Opened{Entry: testEntry, IDs: []string{""}}, ErrInvalid},
		{"more lasting than ids", &Opened{Entry: testEntry, IDs: []string{"x"}, Lasting: 2}, ErrInvalid},
		{"lasting is negative", &Opened{Entry: testEntry, Lasting: -1}, ErrInvalid},
		{"content is empty", &Opened{Entry: testEntry, Content: []string{""}}, ErrInvalid},
		{"content is long", &Opened{Entry: testEntry, Content: []string{long(MaxName + 1)}}, ErrTooLong},
		{"scanned is negative", &Summary{Scanned: -1}, ErrInvalid}, {"holes are negative", &Summary{Holes: -1}, ErrInvalid},
		{"equal is negative", &Summary{Equal: -1}, ErrInvalid}, {"data is negative", &Summary{Data: -1}, ErrInvalid},
		{"zeroed is negative", &Summary{Zeroed: -1}, ErrInvalid},

		{"no data", &Data{}, ErrInvalid}, {"data of no encoding", &Data{Encoding: EncodingNone, Data: []byte{1}}, ErrInvalid},
		{"unknown encoding", &Data{Encoding: 4, Data: []byte{1}}, ErrInvalid}, {"offset is negative", &Data{Offset: -1, Data: []byte{1}}, ErrInvalid},
		{"data is long", &Data{Data: make([]byte, block.ExtentSize+1)}, ErrInvalid},
		{"empty hole", &Hole{}, ErrInvalid}, {"length is negative", &Hole{Length: -1}, ErrInvalid},
		{"offset is negative", &Hole{Offset: -1, Length: 2}, ErrInvalid},
		{"end overflows", &Hole{Offset: math.MaxInt64, Length: 1}, ErrInvalid},
		{"window is negative", &Window{-1}, ErrInvalid},

		{"floor over limit", &Advance{Floor: 2, Limit: 1}, ErrInvalid},
		{"settled is negative", &Advance{Settled: -1, Limit: 1}, ErrInvalid},
		{"settled over floor", &Advance{Settled: 2, Floor: 1, Limit: 2}, ErrInvalid},
		{"no digests", &Digests{}, ErrInvalid},
		{"part of a digest", &Digests{Sums: make([]byte, 33)}, ErrInvalid},
		{"many digests", &Digests{Sums: make([]byte, 32*(MaxBatch+1))}, ErrInvalid},
		{"extent is negative", &Digests{First: -1, Sums: []byte(sumA)}, ErrInvalid},
		{"extent is negative", &Want{extent{-1}}, ErrInvalid},
		{"extent is negative", &Applied{extent{-1}}, ErrInvalid},
		{"extent is negative", &Resend{extent{math.MinInt64}}, ErrInvalid},
		{"no digests", &Blocks{}, ErrInvalid}, {"part of a digest", &Blocks{Sums: make([]byte, 5)}, ErrInvalid},
		{"many digests", &Blocks{Sums: make([]byte, 4*tooMany)}, ErrInvalid},
		{"extent is negative", &Blocks{Extent: -1, Sums: make([]byte, 4)}, ErrInvalid},

		{"extent is negative", &Patch{Extent: -1}, ErrInvalid}, {"encoding 4", &Patch{Encoding: 4}, ErrInvalid},
		{"data where there is none", &Patch{Encoding: EncodingNone, Data: []byte{1}}, ErrInvalid},
		{"data is long", &Patch{Data: make([]byte, block.ExtentSize+1)}, ErrInvalid},
		{"empty run", patch(Run{}), ErrInvalid}, {"run past the extent", patch(Run{First: 1, Count: tooMany - 1}), ErrInvalid},
		{"run far past the extent", patch(Run{First: math.MaxUint16, Count: math.MaxUint16}), ErrInvalid},
		{"unsorted runs", patch(Run{First: 2, Count: 1}, Run{First: 0, Count: 1}), ErrInvalid},
		{"overlapping runs", patch(Run{First: 0, Count: 2}, Run{First: 1, Count: 2}), ErrInvalid},
		{"the same run twice", patch(Run{Count: 1}, Run{Count: 1}), ErrInvalid},

		{"no path", &Prepare{Owner: testClaim}, ErrInvalid}, {"no owner", &Prepare{path: path{"/a"}}, ErrInvalid},
		{"unknown kind", prepare(func(m *Prepare) { m.Kind = 6 }), ErrInvalid},
		{"writing with a snapshot", prepare(func(m *Prepare) { m.Write, m.Kind = true, SnapshotLVM }), ErrInvalid},
		{"a group without a snapshot", prepare(func(m *Prepare) { m.Group = names(1) }), ErrInvalid},
		{"freezing without a snapshot", prepare(func(m *Prepare) { m.Freeze = names(1) }), ErrInvalid},
		{"space without a snapshot", prepare(func(m *Prepare) { m.Space = "1" }), ErrInvalid},
		{"commands without their kind", prepare(func(m *Prepare) { m.Kind, m.Take, m.Drop = SnapshotLVM, names(1), names(1) }), ErrInvalid},
		{"nothing that removes", prepare(func(m *Prepare) { m.Kind, m.Take = SnapshotCommand, names(1) }), ErrInvalid},
		{"too many words", prepare(func(m *Prepare) { m.Before = names(MaxDirectory + 1) }), ErrTooLong},
		{"an empty word", prepare(func(m *Prepare) { m.After = []string{""} }), ErrInvalid},
		{"space is long", prepare(func(m *Prepare) { m.Kind, m.Space = SnapshotLVM, long(MaxName+1) }), ErrTooLong},
		{"time is negative", prepare(func(m *Prepare) { m.Grace = -1 }), ErrInvalid},
		{"time is long", prepare(func(m *Prepare) { m.FreezeTime = MaxWait + 1 }), ErrInvalid},
		{"no owner", &Conclude{}, ErrInvalid}, {"id is long", &Snapshots{long(MaxName + 1)}, ErrTooLong},
		{"device is long", &Prepared{Device: long(MaxName + 1)}, ErrTooLong}, {"state is long", &Kept{State: long(MaxName + 1)}, ErrTooLong},
	} {
		t.Run(name(tt.msg)+"/"+tt.rule, func(t *testing.T) {
			if err := tt.msg.Validate(); !errors.Is(err, tt.want) {
				t.Errorf("Validate: %v, not %v", err, tt.want)
			}
			if err := Unmarshal(Marshal(nil, tt.msg), like(tt.msg)); !errors.Is(err, tt.want) {
				t.Errorf("Unmarshal: %v, not %v", err, tt.want)
			}
		})
	}
}

// Payloads that no message of ours marshals to.
func TestUnmarshal_Err(t *testing.T) {
	open := "\x00\x02/a"
	claim := u64zero + u64zero + u64zero
	runs := func(n string) string { return u64zero + sumA + "\x00" + n }
	for _, tt := range []struct {
		rule    string
		msg     Message
		payload string
		want    error
	}{
		{"write is 2", &Open{}, open + "\x02\x00\x00\x00" + claim, ErrInvalid},
		{"lead is 255", &Open{}, open + "\x01\xff\x00\x00" + claim, ErrInvalid},
		{"ignore size is 2", &Open{}, open + "\x01\x00\x02\x00" + claim, ErrInvalid},
		{"force is 2", &Open{}, open + "\x01\x00\x00\x02" + claim, ErrInvalid},
		{"pins that are not there", &Open{}, open + "\x01\x00\x00\x00" + claim + "\x00\x00\x00\x02\x00\x01", ErrShort},
		{"65535 pins", &Open{}, open + "\x01\x00\x00\x00" + claim + "\x00\x00\xff\xff", ErrTooLong},
		{"look is 2", &Describe{}, open + "\x02", ErrInvalid},
		{"reread is 2", &Close{}, "\x01\x02" + int2, ErrInvalid},
		{"compare is 2", &Send{}, u64zero + int2 + "\x00\x00\x10\x00" + int2 + "\x02\x00", ErrInvalid},
		{"compare is 2", &Receive{}, u64zero + int2 + "\x00\x00\x10\x00" + int2 + "\x02", ErrInvalid},
		{"properties that are not there", &Properties{}, "\x00\x20", ErrShort},
		{"65535 properties", &Properties{}, "\xff\xff" + long(60000), ErrTooLong},
		{"commit is 2", &Close{}, "\x02" + int2, ErrInvalid},
		{"shared is 2", &Opened{}, "\x00\x00" + int2 + "\x02" + entryA, ErrInvalid},
		{"read-only is 2", &Entries{}, "\x00\x01\x00\x00\x01\x02\x00" + claim + "\x00\x00\x00\x00\x00\x00", ErrInvalid},
		{"zero of a run is 2", &Patch{}, runs("\x00\x01") + "\x02\x00\x00\x00\x01", ErrInvalid},
		{"65535 runs", &Patch{}, runs("\xff\xff"), ErrTooLong},
		{"a run too many", &Patch{}, runs("\x08\x01") + long(1<<20), ErrTooLong},
		{"runs that are not there", &Patch{}, runs("\x08\x00") + long(5*2048-1), ErrShort},
		{"entries that are not there", &Entries{}, "\x00\x20", ErrShort},
		{"65535 entries", &Entries{}, "\xff\xff" + long(60000), ErrTooLong},
		{"a string of 65535", &Notice{}, "\xff\xff" + long(60000), ErrTooLong},
		{"a string that is not there", &Notice{}, "\x10\x00", ErrShort},
	} {
		t.Run(name(tt.msg)+"/"+tt.rule, func(t *testing.T) {
			if err := Unmarshal([]byte(tt.payload), tt.msg); !errors.Is(err, tt.want) {
				t.Errorf("%v, not %v", err, tt.want)
			}
		})
	}
}

// The largest message of each kind fits its frame.
func TestMessage_LimitsFit(t *testing.T) {
	full := Entry{Name: long(MaxName), Kind: KindDir, ID: long(MaxName)}
	entries := &Entries{}
	for range MaxDirectory {
		entries.Entries = append(entries.Entries, full)
	}
	facts := &Properties{}
	for range MaxDirectory {
		facts.Properties = append(facts.Properties, Property{long(MaxName), long(MaxName)})
	}
	patch := &Patch{Data: make([]byte, block.ExtentSize)}
	for i := range block.MaxPerExtent {
		patch.Runs = append(patch.Runs, Run{Zero: i%2 == 1, First: uint16(i), Count: 1})
	}
	for _, m := range []Message{
		&Hello{OS: long(MaxName), Arch: long(MaxName), Build: long(MaxName), BootID: long(MaxName)},
		&Error{Code: 1, Text: long(MaxText)}, entries, facts,
		&Open{path: path{long(MaxPath)}, Write: true, Expect: long(MaxName), Pins: slices.Repeat([]string{long(MaxName)}, MaxDirectory)},
		&Opened{Path: long(MaxPath), Entry: full, IDs: slices.Repeat([]string{long(MaxName)}, MaxDirectory), Content: slices.Repeat([]string{long(MaxName)}, MaxDirectory)}, &Data{Data: make([]byte, block.ExtentSize)},
		&Digests{Sums: make([]byte, MaxBatch*32)}, &Blocks{Sums: make([]byte, block.MaxPerExtent*4)}, patch,
		NewSend(block.Range{Length: math.MaxInt64, BlockSize: block.MaxSize}, MaxWindow),
	} {
		b := Marshal(nil, m)
		if err := Unmarshal(b, like(m)); err != nil || len(b) > m.Type().maxPayload() {
			t.Errorf("%s: %d of %d bytes, %v", name(m), len(b), m.Type().maxPayload(), err)
		}
	}
}

func TestDigests_AddAt(t *testing.T) {
	var d Digests
	var b Blocks
	for _, sum := range []block.Digest{testSumA, testSumB} {
		d.Add(sum)
		b.Add(sum)
	}
	if d.Len() != 2 || d.At(0) != testSumA || d.At(1) != testSumB {
		t.Errorf("digests are %x", d.Sums)
	}
	if b.Len() != 2 || string(b.Sums) != string(testSumA[:block.ShortSize])+string(testSumB[:block.ShortSize]) {
		t.Errorf("blocks are %x", b.Sums)
	}
}

func TestSummary_Add(t *testing.T) {
	s := Summary{testSumA, 1, 2, 3, 4, 5}
	s.Add(&Summary{testSumB, 10, 20, 30, 40, 50})
	if s != (Summary{testSumA, 11, 22, 33, 44, 55}) {
		t.Errorf("the sum is %+v", s)
	}
}

func TestError_Is(t *testing.T) {
	err := fmt.Errorf("copying: %w", Errorf(CodeBusy, "%s: mounted", "/dev/sda"))
	if !errors.Is(err, CodeBusy) || errors.Is(err, CodeIO) || err.Error() != "copying: /dev/sda: mounted" {
		t.Errorf("%v", err)
	}
	if Code(999).Error() != "error code 999" {
		t.Error(Code(999))
	}
}

func TestSpan_Range(t *testing.T) {
	r := block.Range{Offset: 1 << 40, Length: 1<<40 + 1, BlockSize: 512}
	if s := NewSend(r, 3); s.Range() != r || s.Window != 3 {
		t.Errorf("Send has %+v", s)
	}
	if s := NewReceive(r, 3); s.Range() != r || s.Window != 3 {
		t.Errorf("Receive has %+v", s)
	}
}

func TestClip(t *testing.T) {
	if Clip("short") != "short" || len(Clip(long(MaxText+1))) != MaxText {
		t.Error("text is not cut to MaxText")
	}
}

func TestFrame_PatchEncoding(t *testing.T) {
	for _, v := range vectors {
		f := Frame{Type: v.msg.Type(), Payload: []byte(v.payload)}
		got, err := f.PatchEncoding()
		p, ok := v.msg.(*Patch)
		if (err == nil) != ok || ok && got != p.Encoding {
			t.Errorf("%s: %d, %v", name(v.msg), got, err)
		}
	}
	short := Frame{Type: TypePatch, Payload: make([]byte, 40)}
	if _, err := short.PatchEncoding(); !errors.Is(err, ErrInvalid) {
		t.Errorf("a patch that is cut: %v", err)
	}
}
