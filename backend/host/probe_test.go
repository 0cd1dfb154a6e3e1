package host

import (
	"net"
	"os"
	"os/user"
	"path/filepath"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

func TestIdentify(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	helper := harness.Bin(t, "blockdev-helper")
	for _, c := range []struct {
		name, script string
		user         string
		root         bool
	}{
		{"real", `exec "$1"`, me.Username, me.Uid == "0"},
		{"login shell talks", `echo uid=me; echo Welcome; "$1"; echo bye`, me.Username, me.Uid == "0"},
		{"other user", `echo "uid=1000(backup) gid=0(root) groups=0(root)"`, "backup", false},
		{"no name", `echo "uid=1000 gid=1000"`, "", false},
		{"forced command", `exec "` + helper + `" serve`, "", false},
		{"nothing runs", `exit 1`, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			harness.Goroutines(t)
			r := newLocalShell(Config{Host: "h"})
			r.argv = func(command string) []string { return []string{"/bin/sh", "-c", c.script, "sh", command} }
			began := time.Now()
			name, root := identify(t.Context(), r)
			if name != c.user || root != c.root {
				t.Errorf("got %q, %v, want %q, %v", name, root, c.user, c.root)
			}
			if time.Since(began) >= identifyTime {
				t.Error("the question was not answered but cut off")
			}
		})
	}
}

// What Pin writes is what verify looks for, in a file that may be there already.
func TestUnknownKeyError_Pin(t *testing.T) {
	key := harness.NewKey(t, t.TempDir(), "host", "").Public
	for _, before := range []string{"absent", "", "# end\n", "# no line end"} {
		file := filepath.Join(t.TempDir(), "new", "known_hosts")
		want := before
		if before == "absent" {
			want = ""
		} else {
			if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, file, before)
		}
		if want == "# no line end" {
			want += "\n"
		}
		e := &UnknownKeyError{Key: key, File: file, Name: "db.example.com:2222"}
		if err := e.Pin(); err != nil {
			t.Fatal(err)
		}
		if got := read(t, file); got != want+e.Line()+"\n" {
			t.Errorf("%q became %q", before, got)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		keys, err := loadHostKeys(&target{name: "db", hostKeyName: e.Name, knownHosts: []string{file}})
		if err != nil {
			t.Fatal(err)
		}
		if err := keys.verify("", &net.TCPAddr{}, key); err != nil {
			t.Error(err)
		}
	}
}
