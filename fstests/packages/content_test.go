package packages

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/bundle/platform"
)

// elsewhere is where the package for rpm has what the one for Debian has in another place, or does not have.
var elsewhere = map[string]string{
	"/usr/share/zsh/vendor-completions/_rclone-blockdev": "/usr/share/zsh/site-functions/_rclone-blockdev",
	"/usr/share/lintian/overrides/rclone-blockdev":       "/usr/share/licenses/rclone-blockdev/LICENSE",
}

// folders belong to the package. Each is removed with it when it is empty.
var folders = []string{"/etc/rclone-blockdev/", "/usr/share/doc/rclone-blockdev/", "/usr/share/doc/rclone-blockdev/examples/"}

// TestRpm compares the package for rpm with that for Debian, which is known to work.
func TestRpm(t *testing.T) {
	require.Need(t, require.Rpm, require.Dpkg)
	rpm, deb := build(t, "rpm", "rpm"), build(t, "deb", "deb")
	if said, err := output("/", nil, "rpm", "-K", "--nosignature", rpm); err != nil || !strings.Contains(said, "digests OK") {
		t.Errorf("rpm -K says %q, %v", said, err)
	}
	if made, err := output("/", nil, "rpm", "-qp", "--qf", "%{BUILDTIME} %{BUILDHOST}", rpm); err != nil || made != epoch+" localhost" {
		t.Errorf("made at %q, %v", made, err)
	}
	listed, err := output("/", nil, "rpm", "-qp", "--qf", "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILENAMES}\n]", rpm)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(listed), "\n")
	packed, err := output("/", nil, "dpkg-deb", "-c", deb)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"drwxr-xr-x root /usr/share/licenses/rclone-blockdev"}
	for line := range strings.Lines(packed) {
		words := strings.Fields(line) // mode, owner/group, size, day, time, name
		name := strings.TrimPrefix(words[5], ".")
		if strings.HasSuffix(name, "/") && !slices.Contains(folders, name) {
			continue // tar has each folder, rpm those that belong to the package
		}
		name = strings.TrimSuffix(name, "/")
		if name == "/usr/share/doc/rclone-blockdev/changelog.gz" {
			continue // in the form of Debian
		}
		if other := elsewhere[name]; other != "" {
			name = other
		}
		owner, _, _ := strings.Cut(words[1], "/")
		want = append(want, words[0]+" "+owner+" "+name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if len(want) < 25 || !slices.Equal(got, want) {
		t.Errorf("the package for rpm has\n%s\nthat for Debian\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Two packages of the same programs have the same bytes, and nothing of the day or the folder in which they were made.
func TestReproducible_Packages(t *testing.T) {
	for _, format := range []string{"deb", "rpm"} {
		if !same(t, build(t, format, format), build(t, format, format+" again")) {
			t.Errorf("the second package for %s is another one", format)
		}
	}
}

// The helper has the same bytes when it is compiled from the ground in another folder: what is in packages and in the
// bundle can be made again by anyone. It knows the version of the release.
func TestReproducible_Helper(t *testing.T) {
	other := filepath.Join(t.TempDir(), "another place")
	sources(t, other)
	packer := filepath.Join(t.TempDir(), "pack")
	if _, err := output(root(t), nil, "go", "build", "-o", packer, "./helper/bundle/pack"); err != nil {
		t.Fatal(err)
	}
	here := platform.Platform{OS: runtime.GOOS, Arch: runtime.GOARCH}.FileName()
	first, second := t.TempDir(), t.TempDir()
	env := []string{"BLOCKDEV_VERSION=v" + version}
	if _, err := output(root(t), env, packer, "-platforms", here, "-dir", first); err != nil {
		t.Fatal(err)
	}
	cold := append(env, "GOCACHE="+t.TempDir(), "HOME="+t.TempDir(), "GOPATH="+goEnv(t, "GOPATH"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"))
	if _, err := output(other, cold, packer, "-platforms", here, "-dir", second); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"manifest", here + ".zst"} {
		if !same(t, filepath.Join(first, name), filepath.Join(second, name)) {
			t.Errorf("%s is another one in another folder", name)
		}
	}
	packed, err := os.ReadFile(filepath.Join(second, here+".zst"))
	if err != nil {
		t.Fatal(err)
	}
	reader, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	helper, err := reader.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(t.TempDir(), "helper")
	if err := os.WriteFile(bin, helper, 0o755); err != nil {
		t.Fatal(err)
	}
	if said, err := output("/", nil, bin, "version"); err != nil || !strings.HasPrefix(said, "blockdev-helper v"+version+" protocol ") {
		t.Errorf("it says %q, %v", said, err)
	}
}

// A release has a helper for each platform of the bundle, and rclone-blockdev for these too.
func TestRelease_Platforms(t *testing.T) {
	targets := map[string][]string{}
	for _, b := range readRelease(t).Builds {
		for _, target := range b.Targets {
			words := strings.Split(target, "_")
			targets[b.ID] = append(targets[b.ID], words[0]+"-"+words[1])
		}
		if !slices.Contains(b.Flags, "-trimpath") || !slices.Contains(b.Flags, "-buildvcs=false") {
			t.Errorf("%s is built with %q, which the folder and the repository change", b.ID, b.Flags)
		}
	}
	all := platform.All()
	for _, p := range all {
		for id, have := range targets {
			if !slices.Contains(have, p.FileName()) {
				t.Errorf("a release has no %s for %s", id, p)
			}
		}
	}
	if len(targets["blockdev-helper"]) != len(all) {
		t.Errorf("a release has helpers for %q, the bundle for %v", targets["blockdev-helper"], all)
	}
}

// The list of what is in a program names what the go tool finds in it, in the form that is promised.
func TestSBOM(t *testing.T) {
	program, document := harness.Bin(t, "rclone-blockdev"), filepath.Join(t.TempDir(), "program.cdx.json")
	command := readRelease(t).SBOMs[0]
	args := []string{command.Cmd}
	for _, arg := range command.Args {
		args = append(args, strings.NewReplacer("$artifact", program, "$document", document, "{{ .Version }}", version).Replace(arg))
	}
	if _, err := output(root(t), []string{"CGO_ENABLED=0"}, args...); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	var sbom struct {
		BOMFormat  string
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(text, &sbom); err != nil || sbom.BOMFormat != "CycloneDX" {
		t.Fatalf("form %q, %v", sbom.BOMFormat, err)
	}
	listed := map[string]string{}
	for _, c := range sbom.Components {
		listed[c.Name] = c.Version
	}
	modules, err := exec.Command("go", "version", "-m", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range bytes.Lines(modules) {
		if words := strings.Fields(string(line)); words[0] == "dep" {
			found++
			if listed[words[1]] != words[2] {
				t.Errorf("%s %s is in the program, the list has %q", words[1], words[2], listed[words[1]])
			}
		}
	}
	if found < 50 || listed["github.com/rclone/rclone"] == "" {
		t.Errorf("the program has %d modules, the list %d", found, len(listed))
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	said, err := output(root(t), nil, "go", "env", name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(said)
}

// same compares two files.
func same(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}
