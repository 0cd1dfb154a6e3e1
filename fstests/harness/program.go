package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// BinDir is the environment variable that names a folder with finished programs, so that nothing is built again.
const BinDir = "BLOCKDEV_BIN_DIR"

// builds holds the outcome of building each program in this process.
var builds struct {
	mu   sync.Mutex
	done map[string]built // hold mu
}

type built struct {
	path string
	err  error
}

// Bin returns the path of cmd/name: from the folder that BinDir names, or built once in this process. The program
// stays in the user's cache folder, where the go tool finds it up to date the next time.
func Bin(t testing.TB, name string) string {
	t.Helper()
	builds.mu.Lock()
	defer builds.mu.Unlock()
	b, ok := builds.done[name]
	if !ok {
		b.path, b.err = locate(name)
		if builds.done == nil {
			builds.done = map[string]built{}
		}
		builds.done[name] = b
	}
	if b.err != nil {
		t.Fatalf("cannot build cmd/%s: %v", name, b.err)
	}
	return b.path
}

func locate(name string) (string, error) {
	file := name
	if runtime.GOOS == "windows" {
		file += ".exe"
	}
	if dir := os.Getenv(BinDir); dir != "" {
		path, err := filepath.Abs(filepath.Join(dir, file))
		if err != nil {
			return "", err
		}
		_, err = os.Stat(path)
		return path, err
	}
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	dir, err := cacheDir(root)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, file)
	return path, build(root, name, path)
}

// cacheDir returns the folder for what is built from a source, named by its folder or module. Two checkouts on one
// machine must not take each other's programs.
func cacheDir(source string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(source))
	dir := filepath.Join(cache, "rclone-blockdev-tests", hex.EncodeToString(sum[:8]))
	return dir, os.MkdirAll(dir, 0o700)
}

// ModuleRoot returns the folder of go.mod above the working folder.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod above the working folder")
		}
		dir = parent
	}
}

// build makes cmd/name at path.
func build(root, name, path string) error {
	return renew(path, func(fresh string) error {
		args := []string{"build", "-o", fresh}
		if name == "rclone-blockdev" {
			overlay, err := withHelper(root, filepath.Dir(fresh))
			if err != nil {
				return err
			}
			args = append(args, "-overlay", overlay)
		}
		return goTool(root, append(args, "./cmd/"+name)...)
	})
}

// renew calls update for the program at path. The tests of several packages do this at the same time, so the go tool
// gets a name of this process, which starts as a link to the present program: go leaves it alone when it is up to
// date.
func renew(path string, update func(fresh string) error) error {
	own, err := os.MkdirTemp(filepath.Dir(path), "build")
	if err != nil {
		return err
	}
	defer os.RemoveAll(own)
	fresh := filepath.Join(own, filepath.Base(path))
	_ = os.Link(path, fresh) // without the link the program is linked anew, which is only slower
	if err := update(fresh); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// withHelper packs the helper of this machine from the present sources and returns the overlay file that builds
// it in, in place of what "go generate" left in the tree, which may be old or missing.
func withHelper(root, dir string) (string, error) {
	packed := filepath.Join(dir, "bundle")
	here := runtime.GOOS + "-" + runtime.GOARCH
	if err := goTool(root, "run", "./helper/bundle/pack", "-platforms", here, "-dir", packed); err != nil {
		return "", err
	}
	files, err := os.ReadDir(packed)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for _, f := range files {
		replace[filepath.Join(root, "helper", "bundle", "data", f.Name())] = filepath.Join(packed, f.Name())
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o600)
}

// goTool runs the go command in the module; its error holds what the command said.
func goTool(root string, args ...string) error { return goToolIn(root, nil, args...) }

// goToolIn is goTool with lines added to the environment.
func goToolIn(root string, env []string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
