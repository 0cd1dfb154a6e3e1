// Package packages builds the packages for Debian and for rpm of the programs that were built anyway, as a release
// does, and looks at what is in them; they are installed, used and removed in copies of this machine's file system, in
// one of which systemd runs.
package packages

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

const (
	// nfpm is run by its release, so that nothing of it is in go.mod. It is the one in goreleaser v2.15.1.
	nfpm    = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2"
	version = "1.2.3"
	epoch   = "1700000000" // 2023-11-14T22:13:20Z
	moment  = "2023-11-14T22:13:20Z"
	// staged is where .goreleaser.yaml has what cmd/rclone-blockdev/package/stage makes.
	staged = "bin/package/"
)

var programs = []string{"rclone-blockdev", "blockdev-helper"}

// work is a folder for what several tests use.
var work string

func TestMain(m *testing.M) {
	var err error
	if work, err = os.MkdirTemp("", "blockdev-packages"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(work)
	os.Exit(code)
}

// once makes what several tests need, by its name.
var once = struct {
	mu   sync.Mutex
	done map[string]error // hold mu
}{done: map[string]error{}}

// prepared runs f at the first call of that name, and returns the path of that name below work.
func prepared(t *testing.T, name string, f func(path string) error) string {
	t.Helper()
	once.mu.Lock()
	defer once.mu.Unlock()
	path := filepath.Join(work, name)
	err, known := once.done[name]
	if !known {
		err = f(path)
		once.done[name] = err
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return path
}

// output runs a program in dir; its error holds what the program said.
func output(dir string, env []string, args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out), nil
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := harness.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// stage makes what is in packages beside the programs.
func stage(t *testing.T) string {
	t.Helper()
	program, root := harness.Bin(t, "rclone-blockdev"), root(t)
	return prepared(t, "stage", func(path string) error {
		script := filepath.Join(root, "cmd", "rclone-blockdev", "package", "stage")
		_, err := output(root, []string{"PROGRAM=" + program, "SOURCE_DATE_EPOCH=" + epoch}, script, path, "v"+version)
		return err
	})
}

// stripped makes the programs as large as those of a release, which has no symbols either.
func stripped(t *testing.T) string {
	t.Helper()
	require.Need(t, require.Strip)
	var from []string
	for _, name := range programs {
		from = append(from, harness.Bin(t, name))
	}
	return prepared(t, "programs", func(path string) error {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		for i, name := range programs {
			if _, err := output(path, nil, "strip", "-s", "-o", name, from[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// release is .goreleaser.yaml, as far as it is read here.
type release struct {
	Builds []struct {
		ID      string   `yaml:"id"`
		Flags   []string `yaml:"flags"`
		Targets []string `yaml:"targets"`
	} `yaml:"builds"`
	Packages []map[string]any `yaml:"nfpms"`
	SBOMs    []struct {
		Cmd  string   `yaml:"cmd"`
		Args []string `yaml:"args"`
	} `yaml:"sboms"`
}

func readRelease(t *testing.T) release {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var r release
	if err := yaml.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Packages) != 1 || len(r.Builds) != 2 || len(r.SBOMs) != 1 {
		t.Fatalf(".goreleaser.yaml has %d packages, %d builds and %d lists of contents", len(r.Packages), len(r.Builds), len(r.SBOMs))
	}
	return r
}

// config is what goreleaser makes of its section nfpms for nfpm: the same, with the version, the programs and absolute
// paths. What it does with templates is done for the two that are used.
func config(t *testing.T, version, stage, programDir string) map[string]any {
	t.Helper()
	c := readRelease(t).Packages[0]
	c["name"], c["version"], c["arch"], c["platform"] = c["package_name"], version, "amd64", "linux"
	c["mtime"] = moment
	binDir, _ := c["bindir"].(string)
	contents, _ := c["contents"].([]any)
	for _, name := range programs {
		contents = append(contents, map[string]any{
			"src": filepath.Join(programDir, name), "dst": binDir + "/" + name, "file_info": map[string]any{"mode": 0o755},
		})
	}
	for _, content := range contents {
		content := content.(map[string]any)
		if src, ok := content["src"].(string); ok {
			content["src"] = absolute(src, root(t), stage)
		}
	}
	c["contents"] = contents
	c["deb"].(map[string]any)["compression"] = "none" // each of several compressions would take longer than all else
	c["rpm"].(map[string]any)["compression"] = "zstd:1"
	for name, script := range c["scripts"].(map[string]any) {
		c["scripts"].(map[string]any)[name] = absolute(script.(string), root(t), stage)
	}
	for _, key := range []string{"id", "ids", "package_name", "formats", "file_name_template", "bindir"} {
		delete(c, key) // those that nfpm does not know
	}
	return c
}

func absolute(path, root, stage string) string {
	if rest, ok := strings.CutPrefix(path, staged); ok {
		return filepath.Join(stage, rest)
	}
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(root, path)
}

// build makes a package, "deb" or "rpm", in a folder named name below work.
func build(t *testing.T, format, name string) string {
	t.Helper()
	return buildOf(t, format, name, config(t, version, stage(t), stripped(t)))
}

// later is the version after the one of all other packages.
const later = "1.2.4"

// buildLater makes a package of that version, which does not have the file lost any more.
func buildLater(t *testing.T, format, lost string) string {
	t.Helper()
	c := config(t, later, stage(t), stripped(t))
	c["contents"] = slices.DeleteFunc(c["contents"].([]any), func(content any) bool { return content.(map[string]any)["dst"] == lost })
	return buildOf(t, format, format+" "+later, c)
}

func buildOf(t *testing.T, format, name string, c map[string]any) string {
	t.Helper()
	text, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	dir := prepared(t, name, func(path string) error {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(path, "nfpm.yaml"), text, 0o600); err != nil {
			return err
		}
		_, err := output(path, []string{"SOURCE_DATE_EPOCH=" + epoch}, "go", "run", nfpm, "package", "-f", "nfpm.yaml", "-p", format, "-t", path)
		return err
	})
	files, err := filepath.Glob(filepath.Join(dir, "*."+format))
	if err != nil || len(files) != 1 {
		t.Fatalf("nfpm made %v, %v", files, err)
	}
	return files[0]
}

// sources copies what the helper is built from.
func sources(t *testing.T, to string) {
	t.Helper()
	from := root(t)
	for _, name := range []string{"go.mod", "go.sum", "helper", "cmd/blockdev-helper"} {
		err := filepath.WalkDir(filepath.Join(from, filepath.FromSlash(name)), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) == ".zst" {
				return err
			}
			rel, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			copied := filepath.Join(to, rel)
			return errors.Join(os.MkdirAll(filepath.Dir(copied), 0o755), os.WriteFile(copied, text, 0o644))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
