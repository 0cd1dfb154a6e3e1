package harness

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	plugin = "librcloneplugin_backend_blockdev"
	rclone = "github.com/rclone/rclone"
)

// alike is what a plugin and its rclone must have in common: cgo, and the flags that change what the compiler makes
// of a package. The user's own settings would hold for one and break the other.
var alike = []string{"CGO_ENABLED=1", "GOFLAGS=-buildvcs=false", "GOWORK=off"}

// Stock is an rclone as others have it, without anything of this project.
type Stock struct {
	Bin     string
	Version string // that go.mod names, such as v1.76.0
}

// StockRclone installs, as a user does, the rclone that go.mod names. It needs require.Cgo, and minutes when
// nothing is compiled yet. The program stays in the user's cache folder for the next time.
func StockRclone(t testing.TB) Stock {
	t.Helper()
	stock, err := stockRclone()
	if err != nil {
		t.Fatalf("cannot install %s: %v", rclone, err)
	}
	return stock
}

func stockRclone() (Stock, error) {
	root, err := ModuleRoot()
	if err != nil {
		return Stock{}, err
	}
	list := exec.Command("go", "list", "-m", "-f", "{{.Version}}", rclone)
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		return Stock{}, fmt.Errorf("%s: %w", list, err)
	}
	version := strings.TrimSpace(string(out))
	dir, err := cacheDir(rclone + "@" + version)
	if err != nil {
		return Stock{}, err
	}
	path := filepath.Join(dir, "rclone")
	return Stock{path, version}, renew(path, func(fresh string) error {
		env := append([]string{"GOBIN=" + filepath.Dir(fresh)}, alike...)
		return goToolIn(root, env, "install", rclone+"@"+version)
	})
}

// Plugin builds the plugin for StockRclone, with a helper for this machine, and returns the folder that
// RCLONE_PLUGIN_PATH is to name. It needs require.Cgo.
func Plugin(t testing.TB) string {
	t.Helper()
	dir, err := buildPlugin()
	if err != nil {
		t.Fatalf("cannot build cmd/%s: %v", plugin, err)
	}
	return dir
}

func buildPlugin() (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	dir, err := cacheDir(filepath.Join(root, "cmd", plugin))
	if err != nil {
		return "", err
	}
	return dir, renew(filepath.Join(dir, plugin+".so"), func(fresh string) error {
		overlay, err := withHelper(root, filepath.Dir(fresh))
		if err != nil {
			return err
		}
		return goToolIn(root, alike, "build", "-buildmode=plugin", "-overlay", overlay, "-o", fresh, "./cmd/"+plugin)
	})
}
