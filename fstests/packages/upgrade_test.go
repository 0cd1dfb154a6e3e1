package packages

import (
	"slices"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// manager is what installs packages.
type manager struct {
	format                     string
	install, upgrade, remove   []string // with the package, or its name, behind
	verify, version, conffiles []string // print nothing, the version, the files that are the user's to change
}

var managers = []manager{
	{
		"deb", []string{"dpkg", "--force-unsafe-io", "--path-include=*", "-i"}, []string{"dpkg", "--force-unsafe-io", "--path-include=*", "-i"},
		[]string{"dpkg", "--force-unsafe-io", "--purge"}, []string{"dpkg", "--verify"}, []string{"dpkg-query", "-W", "-f", "${Version}"},
		[]string{"dpkg-query", "-W", "-f", "${Conffiles}"},
	},
	{ // Debian's rpm keeps its records in the home, and warns of what it is used for here
		"rpm", []string{"rpm", "--force-debian", "--nodeps", "-i"}, []string{"rpm", "--force-debian", "--nodeps", "-U"},
		[]string{"rpm", "--force-debian", "-e"}, []string{"rpm", "--nodeps", "-V"}, []string{"rpm", "-q", "--qf", "%{VERSION}"}, []string{"rpm", "-qc"},
	},
}

// foreign are folders that other packages have on systems with rpm.
var foreign = []string{"/usr/share/licenses", "/usr/share/zsh/site-functions"}

// TestUpgrade installs a package, uses it, puts a later one in its place and removes that. What its user has made stays.
func TestUpgrade(t *testing.T) {
	require.Need(t, require.Root, require.Overlay, require.Dpkg, require.Rpm)
	const (
		lost = "/usr/share/fish/vendor_completions.d/rclone-blockdev.fish"
		unit = "/etc/systemd/system/rclone-blockdev-sync@.service.d"
		name = "rclone-blockdev"
	)
	for _, p := range managers {
		t.Run(p.format, func(t *testing.T) {
			first, second := build(t, p.format, p.format), buildLater(t, p.format, lost)
			m := newMachine(t)
			m.add(t, first, "/root/first."+p.format)
			m.add(t, second, "/root/second."+p.format)
			before := m.changed(t)
			run := func(command []string, args ...string) string {
				return m.run(t, append(slices.Clone(command), args...)...)
			}
			whole := func(version string) {
				if said := run(p.verify, name); said != "" {
					t.Errorf("%s: changed are %s", version, said)
				}
				if said := run(p.version, name); !strings.HasPrefix(said, version) {
					t.Errorf("installed is %s, want %s", said, version)
				}
				if said := run(p.conffiles, name); strings.TrimSpace(said) != "" {
					t.Errorf("%s: a file that may be changed is a question at each upgrade: %s", version, said)
				}
				m.shell(t, "rclone-blockdev blocksync --yes --truncate /srv/a.img /srv/b.img; cmp /srv/a.img /srv/b.img; blockdev-helper version; rm /srv/b.img")
			}
			m.shell(t, "head -c 1M /dev/urandom >/srv/a.img")
			run(p.install, "/root/first."+p.format)
			whole(version)
			m.shell(t, "ls "+lost+"; mkdir -p "+unit+"; echo '# mine' | tee "+job+" >"+unit+"/override.conf; chmod 600 "+job)
			run(p.upgrade, "/root/second."+p.format)
			whole(later)
			if said, err := m.try("ls", lost); err == nil {
				t.Errorf("there still is %s", said)
			}
			run(p.remove, name)
			m.shell(t, "rm /srv/a.img; [ \"$(stat -c %a "+job+" /etc/rclone-blockdev | tr '\\n' ' ')$(cat "+job+" "+unit+"/override.conf | uniq)\" = '600 700 # mine' ]")
			left := slices.DeleteFunc(m.changed(t), func(name string) bool {
				return slices.Contains(before, name) || slices.Contains(foreign, name) || strings.HasPrefix(name, "/root/.rpmdb/")
			})
			if want := []string{"/etc/rclone-blockdev", job, unit, unit + "/override.conf"}; !slices.Equal(left, want) {
				t.Errorf("removed, it leaves %q, want %q", left, want)
			}
		})
	}
}
