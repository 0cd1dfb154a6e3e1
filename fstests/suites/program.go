// Package suites runs rclone's own tests of syncing, of single operations and of the file system behind mounts and
// servers against remotes of this backend.
//
// Those tests are in packages that cannot be imported, and know only the backends that rclone lists in backend/all.
// So they are compiled in a copy of rclone's module in which that list is another one, with ours in it.
package suites

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// rclone is the module whose tests are run.
const rclone = "github.com/rclone/rclone"

// backends takes the place of rclone's backend/all: the backend under test and what the tests name by themselves.
// The complete list would only take longer to link.
const backends = `// Package all imports the backends that the suites need.
package all

import (
	_ "github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	_ "github.com/rclone/rclone/backend/crypt"
	_ "github.com/rclone/rclone/backend/local"
	_ "github.com/rclone/rclone/backend/memory"
	_ "github.com/rclone/rclone/backend/onedrive" // for its hash
)
`

// Compile makes the test program of each package of rclone in the folder bin, for the backend in the module at
// root. It returns the folder with the source of rclone, in whose folders the programs expect to run.
func Compile(ctx context.Context, root, bin string, packages []string) (source string, err error) {
	if source, err = module(ctx, root); err != nil {
		return "", err
	}
	work := filepath.Join(bin, "go.work")
	text := fmt.Sprintf("go 1.26.0\n\nuse (\n\t%q\n\t%q\n)\n", source, root)
	if err := os.WriteFile(work, []byte(text), 0o600); err != nil {
		return "", err
	}
	args := []string{"test", "-c", "-vet=off", "-o", bin + string(filepath.Separator)}
	for _, name := range packages {
		args = append(args, rclone+"/"+name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = source, append(os.Environ(), "GOWORK="+work)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return source, nil
}

// module returns the folder of the copy. It stays in the user's cache folder: the go tool compiles again what has
// moved to another folder.
func module(ctx context.Context, root string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}\n{{.Version}}", rclone)
	var stderr bytes.Buffer
	cmd.Dir, cmd.Stderr = root, &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w\n%s", err, stderr.Bytes())
	}
	from, version, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	// What the name says is what is in it, and it appears complete: other runs may be copying at this time.
	sum := sha256.Sum256([]byte(from + backends))
	dir := filepath.Join(cache, "rclone-blockdev-tests", "rclone-"+version+"-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "rclone")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	if err := os.CopyFS(fresh, os.DirFS(from)); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(fresh, "backend", "all", "all.go"), []byte(backends), 0o600); err != nil {
		return "", err
	}
	if err := os.Rename(fresh, dir); err != nil {
		if _, err := os.Stat(dir); err == nil {
			return dir, nil // another run was faster
		}
		return "", err
	}
	return dir, nil
}
