package snapshot

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

func TestName(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 7, 0, time.UTC)
	owner := "0123456789abcdef0123456789abcdef"
	if got := nameOf("vm-1 ä", owner, now); got != "blockdev-vm_1__-20261126T120007Z-01234567" {
		t.Error(got)
	}
	long := nameOf(strings.Repeat("x", 300), owner, now)
	for _, name := range []string{nameOf("vm-1", owner, now), nameOf("", owner, now), long} {
		made, who, ok := parseName(name)
		if !ok || who != owner[:8] || !made.Equal(now) || len(name) > 127-len("pool_tmeta") {
			t.Errorf("%s: %v %s %v", name, made, who, ok)
		}
	}
	for _, name := range []string{"", "blockdev-", "blockdev-vm", "vm-20261126T120007Z-01234567", "blockdev-vm-20261126T120007Z-0123456",
		"blockdev-vm-20261126T120007Z-0123456g", "blockdev-vm-20261326T120007Z-01234567", "xblockdev-vm-20261126T120007Z-01234567"} {
		if _, _, ok := parseName(name); ok {
			t.Errorf("%q counts as ours", name)
		}
	}
}

func TestHidden(t *testing.T) {
	for _, name := range []string{"blockdev-vm-20261126T120007Z-01234567", ".blockdev-disk.img-20261126T120007Z-01234567",
		"vm@blockdev-vm-20261126T120007Z-01234567", "vg0-blockdev--vm--20261126T120007Z--01234567", "vg--0-blockdev--vm--20261126T120007Z--01234567-cow"} {
		if !Hidden(name) {
			t.Errorf("%s is listed", name)
		}
	}
	for _, name := range []string{"", ".", "vm", "blockdev-vm", "vg0-vm", ".blockdev-0123456789abcdef.partial", "vm@daily", "vg0-blockdev--vm"} {
		if Hidden(name) {
			t.Errorf("%s is not listed", name)
		}
	}
}

func TestProblem(t *testing.T) {
	for name, kind := range kindNames {
		err := problemOf(fail(kind, "/dev/x", "what to do")).err("/dev/y")
		if !errors.Is(err, kind) || err.Error() != "/dev/x: what to do" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := problemOf(errors.New("strange")).err("/dev/y"); !errors.Is(err, device.ErrIO) || err.Error() != "/dev/y: strange" {
		t.Error(err)
	}
	if problemOf(nil).err("/x") != nil {
		t.Error("no problem is an error")
	}
}

// What is stored is what was stored, whatever bytes are in it.
func TestSpec_Marshal(t *testing.T) {
	want := Spec{Owner: "o", Path: "/a b\n\"\xff", Write: true, Kind: LVM, Group: []string{"/a", "", "x y"}, Space: "9%", Freeze: []string{"/m"}, Limited: true,
		FreezeTime: time.Second, Grace: time.Minute, Take: []string{"t"}, Drop: []string{"d"}, Before: []string{"b", "$x"}, After: []string{"a"}}
	member := Member{"/p\n", "8:0", LVM, "vg/x", "/dev/x", "vg/o", 1 << 40, "u"}
	var got Spec
	var also Member
	err := got.unmarshal(string(member.marshal(want.marshal(nil))), func(l line) error { return also.unmarshal(l) })
	if err != nil || !reflect.DeepEqual(got, want) || also != member {
		t.Errorf("%+v\n%+v\n%+v, %v", got, want, also, err)
	}
	for _, text := range []string{"", "owner", `owner "`, `owner x`, `owner "o"x`, `grace "1"` + "\n", "path \"/a\"\n"} {
		if err := new(Spec).unmarshal(text, func(line) error { return nil }); err == nil {
			t.Errorf("%q is a spec", text)
		}
	}
}
