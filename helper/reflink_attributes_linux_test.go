package helper

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// acl is an access control list that lets one more user read.
func acl(user uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 6, ^uint32(0)}, {2, 4, user}, {4, 4, ^uint32(0)}, {0x10, 4, ^uint32(0)}, {0x20, 0, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(b, e.perm), e.id)
	}
	return b
}

// A changed clone has all that the image had beside its content, and nothing that new files in its directory get.
func TestServe_ReflinkAttributes(t *testing.T) {
	for name, mkfs := range map[string][]string{"xfs": {"mkfs.xfs", "-q", "-f"}, "btrfs": {"mkfs.btrfs", "-q", "-f"}} {
		t.Run(name, func(t *testing.T) {
			dir := mount(t, mkfs...)
			attributes := map[string][]byte{
				"user.note": []byte("of the user"), "trusted.note": {0, 1, 2}, "security.selinux": []byte("system_u:object_r:svirt_image_t:s0:c1,c2\x00"),
				"system.posix_acl_access": acl(1000),
			}
			for _, listed := range []bool{true, false} {
				if !listed {
					delete(attributes, "system.posix_acl_access")
				}
				path := filepath.Join(dir, "image")
				_ = os.Remove(path)
				_ = unix.Removexattr(dir, "system.posix_acl_default")
				old, source := mixed(5<<20, 1), mixed(5<<20, 2)
				if err := os.WriteFile(path, nil, 0o640); err != nil {
					t.Fatal(err)
				}
				if name == "btrfs" {
					inPlace(t, path)
				}
				if err := os.WriteFile(path, old, 0o640); err != nil {
					t.Fatal(err)
				}
				if err := os.Chown(path, 1234, 4321); err != nil {
					t.Fatal(err)
				}
				for name, value := range attributes {
					if err := unix.Setxattr(path, name, value, 0); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
				}
				if err := unix.Setxattr(dir, "system.posix_acl_default", acl(2000), 0); err != nil {
					t.Fatal(err)
				}
				req := openWrite(path, int64(len(source)))
				req.Apply = wire.ApplyReflink
				c := connect(t, Policy{})
				var o wire.Opened
				c.call(req, &o)
				if _, err := unix.Getxattr(o.Path, "system.posix_acl_access", nil); err == nil {
					t.Error("others may read the clone before it is complete")
				}
				if err := c.sends(source); err != nil {
					t.Fatal(err)
				}
				c.call(&wire.Close{Commit: true}, nil)
				c.hangUp()
				holds(t, "complete", path, source)
				buf := make([]byte, 1<<16)
				n, err := unix.Listxattr(path, buf)
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range strings.Split(strings.Trim(string(buf[:n]), "\x00"), "\x00") {
					if _, had := attributes[name]; !had && name != "trusted.SGI_ACL_FILE" { // how XFS stores the list
						t.Errorf("it has %s", name)
					}
				}
				for name, want := range attributes {
					if n, err := unix.Getxattr(path, name, buf); err != nil || !bytes.Equal(buf[:max(n, 0)], want) {
						t.Errorf("%s: %q, %v", name, buf[:max(n, 0)], err)
					}
				}
				var st unix.Stat_t
				if err := unix.Lstat(path, &st); err != nil || st.Uid != 1234 || st.Gid != 4321 || st.Mode&0o777 != 0o640 {
					t.Errorf("owner %d:%d, mode %o, %v", st.Uid, st.Gid, st.Mode, err)
				}
			}
		})
	}
}

// inPlace has a file on Btrfs overwritten in place, as is usual for images of disks.
func inPlace(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|0x00800000))
	}
	if err != nil {
		t.Fatal(err)
	}
}
