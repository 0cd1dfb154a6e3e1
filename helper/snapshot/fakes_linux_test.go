package snapshot

import (
	"os"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// Programs of volume managers that this machine cannot run stand in for the real ones here: what is called, in which
// order, and what is made of their messages. Real LVM is tested in fstests/vm; real ZFS is not.

// fake puts a script on the PATH that notes how it is called.
func (s *stage) fake(name, text string) {
	s.t.Helper()
	if err := os.MkdirAll(s.dir+"/bin", 0o755); err != nil {
		s.t.Fatal(err)
	}
	s.script("bin/"+name, `echo "`+name+` $*" >>`+s.dir+"/calls\n"+text)
	s.t.Setenv("PATH", s.dir+"/bin:"+os.Getenv("PATH"))
}

// fakeZFS is a volume of ZFS on a loop device, whose snapshots are seen when snapdev is visible.
func fakeZFS(t *testing.T, snapdev, source string) (s *stage, volume string) {
	t.Helper()
	s = newStage(t)
	d := harness.Loop(t, 1<<20)
	volume = d.Path
	links := "/dev/zvol/blockdevtest"
	if err := os.MkdirAll(links, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.RemoveAll(links)
		_ = os.Remove("/dev/zvol") // unless something else is there
	})
	if err := os.Symlink(volume, links+"/vm"); err != nil {
		t.Fatal(err)
	}
	s.fake("zfs", `dir=`+s.dir+`
case "$*" in
"list -H -o name -t volume") echo rpool/other; echo blockdevtest/vm;;
"list -H -o name,rclone-blockdev:owner -t snapshot -d 1 blockdevtest/vm") test -e $dir/snap && printf '%s\t%s\n' "$(cat $dir/snap)" "$(cat $dir/mark)"; printf 'blockdevtest/vm@daily\t-\n';;
"get -H -o value,source snapdev blockdevtest/vm") printf '`+snapdev+`\t`+source+`\n';;
"get -H -o value rclone-blockdev:owner"*) test -e $dir/snap || { echo "cannot open '$7': dataset does not exist" >&2; exit 1; }; cat $dir/mark;;
"snapshot -o "*) echo "${3#*=}" >$dir/mark; echo "$4" >$dir/snap;;
"set snapdev=visible blockdevtest/vm") ln -s `+volume+` "/dev/zvol/$(cat $dir/snap)";;
"list -H -o name "*) cat $dir/snap;;
"destroy "*) rm -f $dir/snap "/dev/zvol/$2";;
esac`)
	return s, volume
}

func TestZFS(t *testing.T) {
	for name, c := range map[string]struct{ snapdev, source, restored string }{
		"default": {"hidden", "default", "zfs inherit snapdev blockdevtest/vm"},
		"local":   {"hidden", "local", "zfs set snapdev=hidden blockdevtest/vm"},
	} {
		t.Run(name, func(t *testing.T) {
			s, volume := fakeZFS(t, c.snapdev, c.source)
			spec := &Spec{Owner: newOwner(), Path: volume, Kind: ZFS}
			h := s.prepare(spec)
			dev, _ := h.Device(volume)
			if !strings.HasPrefix(dev, "/dev/zvol/blockdevtest/vm@blockdev-vm-") || !exists(dev) {
				t.Errorf("device %q", dev)
			}
			h.Release()
			if err := Conclude(t.Context(), spec.Owner, Success, true, s.notice); err != nil {
				t.Error(err)
			}
			snap := strings.TrimPrefix(dev, "/dev/zvol/")
			var changes []string
			for line := range strings.Lines(s.read("calls")) {
				if line = strings.TrimSpace(line); !strings.HasPrefix(line, "zfs get") && !strings.HasPrefix(line, "zfs list") {
					changes = append(changes, line)
				}
			}
			want := []string{"zfs snapshot -o rclone-blockdev:owner=" + spec.Owner + " " + snap, "zfs set snapdev=visible blockdevtest/vm",
				"zfs destroy " + snap, c.restored}
			if got := strings.Join(changes, "\n"); got != strings.Join(want, "\n") {
				t.Errorf("called\n%s\nnot\n%s", got, strings.Join(want, "\n"))
			}
			s.nothingLeft()
		})
	}
}

// A snapshot without the mark is not ours, whatever it is called.
func TestZFS_NotOurs(t *testing.T) {
	s, volume := fakeZFS(t, "hidden", "default")
	spec := &Spec{Owner: newOwner(), Path: volume, Kind: ZFS}
	h := s.prepare(spec)
	s.write("mark", "-\n")
	h.Release()
	if err := Conclude(t.Context(), spec.Owner, Success, true, s.notice); err == nil || !strings.Contains(err.Error(), "not removed") {
		t.Errorf("got %v", err)
	}
	if strings.Contains(s.read("calls"), "destroy") {
		t.Error("it was destroyed")
	}
}

// What LVM says becomes one line with the kind that decides what rclone does.
func TestLVM_Messages(t *testing.T) {
	d := harness.Loop(t, 1<<20)
	for name, c := range map[string]struct {
		lvs, create string
		kind        error
		words       []string
	}{
		"no space": {"echo vg\\|vm\\|linear\\|1048576", `echo '  Volume group "vg" has insufficient free space (3 extents): 7 required.' >&2; exit 5`,
			device.ErrNoSpace, []string{d.Path, "taking a snapshot", "insufficient free space"}},
		"taken": {"echo vg\\|vm\\|linear\\|1048576", `echo '  WARNING: Sum of all thin volume sizes' >&2; echo '  Logical Volume "x" already exists in volume group "vg"' >&2; exit 5`,
			device.ErrBusy, []string{"the name is taken"}},
		"permission": {`echo "  /run/lock/lvm/P_global:aux: open failed: Permission denied" >&2; exit 5`, "",
			device.ErrPermission, []string{"sudo", "Permission denied"}},
		"not a volume": {"", "", device.ErrRefused, []string{"is not a logical volume"}},
		"no device":    {"echo vg\\|vm\\|linear\\|1048576", "", device.ErrIO, []string{"there is no device /dev/vg/blockdev-vm-"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.image = d.Path
			s.fake("lvm", `case "$*" in
*"-o lv_tags -S"*) ;;
*"-S lv_tags="*) ;;
lvs*) `+c.lvs+`;;
lvcreate*) `+c.create+`
esac`)
			s.fails(&Spec{Owner: newOwner(), Path: d.Path, Kind: LVM}, c.kind, c.words...)
		})
	}
}

func TestParseSpace(t *testing.T) {
	for text, want := range map[string][2]int64{"20%": {20, 0}, "100%": {100, 0}, "1073741824": {0, 1 << 30}, " 5 %": {}, "0%": {}, "101%": {}, "": {}, "x": {}, "-1": {}, "1G": {}} {
		percent, bytes, err := parseSpace(text)
		if (err == nil) != (want != [2]int64{}) || err == nil && [2]int64{percent, bytes} != want {
			t.Errorf("%q: %d%%, %d bytes, %v", text, percent, bytes, err)
		}
	}
}

func TestOneLine(t *testing.T) {
	said := "  WARNING: be careful\n\n  cannot\x1b[31m do\x07 it\r\n  because\n"
	if got := oneLine(said); got != "cannot [31m do it; because; WARNING: be careful" {
		t.Errorf("%q", got)
	}
	if got := oneLine(strings.Repeat("x", 10000)); len(got) != maxMessage {
		t.Errorf("%d bytes", len(got))
	}
	if got := lines(strings.Repeat("x\n", 100)); len(got) != maxLines+1 {
		t.Errorf("%d lines", len(got))
	}
}
