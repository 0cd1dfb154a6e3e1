package blockdev

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/rclone/rclone/backend/memory"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config"
	"github.com/rclone/rclone/fs/fserrors"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func TestNewFs(t *testing.T) {
	leakless(t)
	dir := t.TempDir()
	write(t, dir+"/disk.img", []byte("hello"))
	if err := os.Symlink("disk.img", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		remote, root string
		isFile       bool
	}{
		{"blockdev:", "", false},
		{"blockdev:localhost", "localhost", false},
		{"blockdev:localhost/", "localhost", false},
		{":blockdev:localhost" + dir, "localhost" + dir, false},
		{"blockdev:localhost" + dir, "localhost" + dir, false},
		{"blockdev:localhost" + dir + "/", "localhost" + dir, false},
		{"blockdev:localhost" + dir + "/missing", "localhost" + dir + "/missing", false},
		{"blockdev:localhost" + dir + "/missing/deeper", "localhost" + dir + "/missing/deeper", false},
		{"blockdev:localhost" + dir + "/disk.img", "localhost" + dir, true},
		{"blockdev:localhost" + dir + "/link", "localhost" + dir, true},
		{"blockdev:localhost" + dir + "/disk.img/", "localhost" + dir + "/disk.img", false},
		{"blockdev,host=localhost:" + dir, dir, false},
		{"blockdev,host=localhost:" + dir + "/disk.img", dir, true},
		{"blockdev,host=localhost:" + strings.TrimPrefix(dir, "/") + "/disk.img", strings.TrimPrefix(dir, "/"), true},
		{"blockdev,host=localhost:", "", false},
		{"blockdev,host=localhost:/", "", false},
	} {
		f, err := fs.NewFs(t.Context(), c.remote)
		if isFile := err == fs.ErrorIsFile; isFile != c.isFile || err != nil && !isFile {
			t.Errorf("%s: %v", c.remote, err)
			continue
		}
		if f.Root() != c.root {
			t.Errorf("%s: root %q, want %q", c.remote, f.Root(), c.root)
		}
		if c.isFile {
			if o := find(t, f, filepath.Base(c.remote)); o.Size() != 5 {
				t.Errorf("%s: %d bytes", c.remote, o.Size())
			}
		}
	}
}

func TestNewFs_Refuses(t *testing.T) {
	leakless(t)
	for remote, says := range map[string]string{
		"blockdev:/dev/sda":                            "no host is named",
		"blockdev://dev/sda":                           "no host is named",
		"blockdev:./dev/sda":                           "no host is named",
		"blockdev:../localhost/dev":                    "no host is named",
		"blockdev:root@/dev/sda":                       "no host is named",
		"blockdev::22/dev/sda":                         "no host is named",
		"blockdev:localhost/dev/null":                  "/dev/null: is a character device",
		"blockdev:localhost:2222/dev/sda":              "127.0.0.1",
		"blockdev:root@localhost/dev/sda":              "127.0.0.1",
		"blockdev,host=localhost,user=root:/dev/sda":   "127.0.0.1",
		"blockdev,host=localhost,port=2222:/dev/sda":   "127.0.0.1",
		"blockdev,ssh_config=none:no.such.invalid/dev": "no.such.invalid",
	} {
		_, err := fs.NewFs(t.Context(), remote)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", remote, err)
		} else if !fserrors.IsNoRetryError(err) {
			t.Errorf("%s: would be tried again: %v", remote, err)
		}
	}
	_, err := fs.NewFs(t.Context(), "blockdev:localhost/dev/null")
	if !errors.Is(err, wire.CodeNotFile) {
		t.Errorf("got %v", err)
	}
}

// Nothing in a path leads to another host, or out of the root of the host.
func TestFs_place(t *testing.T) {
	leakless(t)
	for _, c := range []struct{ remote, below, host, path string }{
		{"blockdev:", "localhost", "localhost", "/"},
		{"blockdev:", "localhost/dev/sda", "localhost", "/dev/sda"},
		{"blockdev:localhost", "../other/dev/sda", "localhost", "/other/dev/sda"},
		{"blockdev:localhost/a/b/", "../c", "localhost", "/a/c"},
		{"blockdev:localhost/a/", "../../../etc", "localhost", "/etc"},
		{"blockdev:localhost/../x/", "", "localhost", "/x"},
		{"blockdev:localhost//a//b/", "", "localhost", "/a/b"},
		{"blockdev:root@192.0.2.1:2222/a/", "b", "192.0.2.1", "/a/b"},
		{"blockdev:root@[::1]:2222/a/", "b", "::1", "/a/b"},
		{"blockdev,host=localhost:/a/", "b", "localhost", "/a/b"},
		{"blockdev,host=localhost://other:22/a/", "b", "localhost", "/other:22/a/b"},
		{"blockdev,host=localhost:../a/", "b", "localhost", "/a/b"},
	} {
		at, err := newFs(t, c.remote).(*Fs).place(c.below)
		if err != nil || at.host.String() != c.host || at.path != c.path {
			t.Errorf("%s and %s: %v %s, %v", c.remote, c.below, at.host, at.path, err)
		}
	}
	f := newFs(t, "blockdev:")
	for _, remote := range []string{"..", ".", "../localhost", "/dev/sda"} {
		if at, err := f.(*Fs).place(remote); err == nil {
			t.Errorf("%s leads to %v %s", remote, at.host, at.path)
		}
	}
	// Above the hosts there is nothing to make or remove.
	if err := f.Mkdir(t.Context(), ""); !errors.Is(err, errNoHost) {
		t.Errorf("mkdir: %v", err)
	}
	if _, err := put(f, "/dev/sda", nil); !errors.Is(err, errNoHost) {
		t.Errorf("put: %v", err)
	}
	if _, err := f.NewObject(t.Context(), "localhost"); !errors.Is(err, fs.ErrorIsDir) {
		t.Errorf("host as an object: %v", err)
	}
}

func TestFs_listHosts(t *testing.T) {
	leakless(t)
	conf := filepath.Join(t.TempDir(), "config")
	write(t, conf, []byte("Host nas\n  Port 22\nHost *.lan\n"))
	entries, err := newFs(t, "blockdev,ssh_config="+conf+":").List(t.Context(), "")
	if err != nil || len(entries) != 2 || entries[0].Remote() != "localhost" || entries[1].Remote() != "nas" {
		t.Errorf("%v, %v", entries, err)
	}
}

// A section of the user that has the name is the user's.
func TestDefaultRemote(t *testing.T) {
	leakless(t)
	if f := newFs(t, "blockdev:localhost/tmp/"); f.Name() != Name || f.String() != "blockdev:localhost/tmp" {
		t.Errorf("%s", f.String())
	}
	config.LoadedData().SetValue(Name, "type", "memory")
	defer config.LoadedData().DeleteSection(Name)
	if f := newFs(t, "blockdev:bucket"); fs.FindFromFs(f).Name != "memory" {
		t.Errorf("%T", f)
	}
	config.LoadedData().SetValue(Name, "type", "blockdev")
	config.LoadedData().SetValue(Name, "host", "localhost")
	if f := newFs(t, "blockdev:/tmp/"); f.Root() != "/tmp" {
		t.Errorf("%s", f.String())
	}
	if _, err := fs.NewFs(t.Context(), "nosuchremote:x"); !errors.Is(err, fs.ErrorNotFoundInConfigFile) {
		t.Errorf("got %v", err)
	}
}

func TestFs_Features(t *testing.T) {
	f := here(t, t.TempDir())
	features := f.Features()
	for name, is := range map[string]bool{
		"Copy": features.Copy != nil, "About": features.About != nil, "Shutdown": features.Shutdown != nil,
		"SlowHash": features.SlowHash, "ServerSideAcrossConfigs": features.ServerSideAcrossConfigs,
	} {
		if !is {
			t.Errorf("lacks %s", name)
		}
	}
	for name, is := range map[string]bool{
		"Move": features.Move != nil, "DirMove": features.DirMove != nil, "Purge": features.Purge != nil,
		"OpenWriterAt": features.OpenWriterAt != nil, "OpenChunkWriter": features.OpenChunkWriter != nil,
		"PartialUploads": features.PartialUploads, "IsLocal": features.IsLocal, "SlowModTime": features.SlowModTime,
	} {
		if is {
			t.Errorf("has %s, by which rclone would remove or rename devices", name)
		}
	}
	if f.Precision() != time.Nanosecond {
		t.Errorf("precision %v", f.Precision())
	}
	for range 2 {
		if err := features.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := f.List(t.Context(), ""); err != nil {
		t.Errorf("after shutdown: %v", err)
	}
}

func TestFs_Hashes(t *testing.T) {
	leakless(t)
	if n := newFs(t, "blockdev:localhost/tmp/").Hashes().Count(); n != 0 {
		t.Errorf("%d hashes by default", n)
	}
	if n := newFs(t, "blockdev,hashes:localhost/tmp/").Hashes().Count(); n != 1 {
		t.Errorf("%d hashes with the option", n)
	}
	ctx, ci := fs.AddConfig(context.Background())
	ci.CheckSum = true
	f, err := fs.NewFs(ctx, "blockdev:localhost/tmp/")
	if err != nil || f.Hashes().Count() != 1 {
		t.Errorf("with --checksum: %v, %v", f, err)
	}
}
