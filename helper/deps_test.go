package helper_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/rclone-blockdev/rclone-blockdev/"
	rclone = "github.com/rclone/rclone"
)

// rule says what the packages of one folder may import. A pattern that ends in "/..." covers a folder and all
// below, any other one a single package. The first rule of the table that covers a package is its rule.
type rule struct {
	pkg   string   // pattern below the module
	ours  []string // patterns of packages of this module that it may import
	never []string // patterns of packages from outside that it may not import itself
	deps  []string // patterns of packages that may not even be imported by what it imports
	why   string
}

// system is what reaches the machine. It is in the dependencies of every package through fmt, so it can only be
// banned as a direct import.
var system = []string{"os", "os/exec", "net/...", "syscall", "golang.org/x/sys/..."}

var rules = []rule{
	{"helper/block/sha256x", nil, []string{"os/exec", "net/...", "syscall"}, []string{rclone + "/..."},
		"sha256x is arithmetic; of the machine it sees the processor and one environment variable"},
	{"helper/block", []string{"helper/block/sha256x"}, system, []string{rclone + "/..."},
		"block is arithmetic that both ends agree on, so it stands alone and does no I/O"},
	{"helper/wire", []string{"helper/block"}, system, []string{rclone + "/..."},
		"wire describes bytes, and of the project it knows only what a block is"},
	{"helper/compress", []string{"helper/block", "helper/wire"}, system, []string{rclone + "/..."},
		"compress turns bytes into fewer bytes and back, and knows what both ends call that"},
	{"helper/delta", []string{"helper/block", "helper/wire", "helper/compress"}, system, []string{rclone + "/..."},
		"delta is the engine without transport and without devices: frames and two small interfaces"},
	{"helper/device/memdev", []string{"helper/block", "helper/device"}, nil, []string{rclone + "/..."},
		"a device in memory stands in for a real one and knows nothing of transfers"},
	{"helper/signature", nil, system, []string{rclone + "/..."},
		"signature recognises bytes, wherever they come from"},
	{"helper/device", []string{"helper/signature"}, nil, []string{rclone + "/..."},
		"device knows systems and disks, not transfers"},
	{"helper/bundle/platform", nil, nil, []string{rclone + "/..."},
		"the list of platforms is read by the packer, which must not need the packed files"},
	{"helper/bundle/pack", []string{"helper/bundle/..."}, nil, []string{rclone + "/..."},
		"the packer runs the go tool and must work before anything else of the project builds"},
	{"helper/bundle", []string{"helper/bundle/platform"}, nil, []string{rclone + "/..."},
		"the helper must not contain the bundle of helpers, so bundle stands beside the tree and not in it"},
	{"helper/manifest", []string{"helper/block"}, []string{"os/exec", "net/...", "syscall", "golang.org/x/sys/..."}, []string{rclone + "/..."},
		"a manifest is a file of digests, read and written without knowing what a device is"},
	{"helper/recovery", []string{"helper/block", "helper/wire", "helper/compress", "helper/delta"}, []string{"os/exec", "net/..."}, []string{rclone + "/..."},
		"recovery keeps what is overwritten in files, and is given the devices by who opens and refuses"},
	{"helper/progress", nil, system, []string{rclone + "/..."},
		"progress is numbers and words, for commands with rclone and without it"},
	{"helper/tool", []string{"helper", "helper/block", "helper/delta", "helper/device", "helper/manifest", "helper/progress"},
		[]string{"os/exec", "net/...", "os/user"}, []string{rclone + "/..."},
		"the tool is the helper for people: what serves clients does not need it, and it is as small"},
	{"helper/witness", []string{"helper/device"}, []string{"os/exec", "net/..."}, []string{rclone + "/..."},
		"a witness compares what package device tells of a target with what it told before, and moves nothing"},
	{"helper/snapshot", []string{"helper/device"}, nil, []string{rclone + "/..."},
		"snapshot runs the programs of the host around a transfer and knows nothing of how that moves"},
	{"helper", []string{"helper/block", "helper/wire", "helper/compress", "helper/delta", "helper/device", "helper/recovery", "helper/snapshot", "helper/witness"}, nil, []string{rclone + "/..."},
		"the helper serves devices through the engine and stays small: no rclone and no bundle"},
	{"backend/receipt", []string{"helper/block", "helper/manifest"}, nil, []string{rclone + "/..."},
		"a receipt is a pair of files; JSON would make the helper a sixteenth larger, so it is not there"},
	{"backend/deltafile", []string{"helper/block", "helper/compress", "helper/manifest", "helper/wire"}, nil, []string{rclone + "/..."},
		"a delta is a file that may lie anywhere: who reads and stores it is not its business"},
	{"backend/host", []string{"helper/..."}, nil, nil,
		"host reaches helpers and does not know what rclone wants from them"},
	{"backend/devmap", nil, nil, nil,
		"devmap draws what it is told and knows nothing of transfers"},
	{"backend/blockdev", []string{"helper/...", "backend/host", "backend/devmap", "backend/receipt", "backend/deltafile"},
		[]string{rclone + "/fs/sync/...", rclone + "/vfs/...", rclone + "/cmd/..."}, nil,
		"a backend that imports rclone's commands cannot be imported by them"},
	{"backend/blocksync", []string{"helper/block", "helper/progress", "backend/host", "backend/devmap", "backend/blockdev"}, nil, nil,
		"a command over the backend moves nothing by itself, and the plugin does without it"},
	{"cmd/blockdev-helper", []string{"helper/..."}, nil, []string{rclone + "/...", "net", "os/user"},
		"the helper is one small static file: net and os/user would need the C library of the host"},
	{"cmd/...", []string{"helper/...", "backend/..."}, nil, nil,
		"programs only wire: nothing may import them, and they import no tests"},
	{"docs/man", nil, nil, []string{rclone + "/..."},
		"manual pages are made of other pages, not of programs; what these say is compared by a test"},
	{"fstests/edges", nil, []string{"..."}, nil,
		"the edge sizes are used by the tests of every package, so they import nothing"},
	{"fstests/require", nil, []string{rclone + "/..."}, []string{rclone + "/..."},
		"the gate is used by the tests of every package, so it imports nothing of ours"},
	{"fstests/harness", []string{"fstests/require", "fstests/edges"}, nil, []string{rclone + "/..."},
		"what measures and compares must not share code with what is tested"},
	{"fstests/...", []string{"helper/...", "backend/...", "fstests/..."}, nil, nil,
		"tests may use everything but programs, which they run"},
}

// listed is one package as the go tool describes it.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string // direct
	Deps                               []string // all, without those of tests
}

// TestImports compares every package of the module with its rule, on each kind of system, because files of one
// system may import what the others do not.
func TestImports(t *testing.T) {
	for _, platform := range []string{"linux/amd64", "freebsd/amd64", "darwin/arm64", "windows/amd64"} {
		t.Run(platform, func(t *testing.T) {
			t.Parallel()
			packages := list(t, platform)
			for _, p := range packages {
				if strings.HasPrefix(platform, "windows/") { // golang.org/x/sys/windows itself needs net
					p.Deps = slices.DeleteFunc(p.Deps, func(path string) bool { return path == "net" })
				}
				for _, fault := range faults(p) {
					t.Error(fault)
				}
			}
			for _, r := range rules {
				present := slices.ContainsFunc(packages, func(p listed) bool { return covers(r.pkg, ours(p.ImportPath)) })
				if !present && exists(t, strings.TrimSuffix("../"+r.pkg, "/...")) {
					t.Errorf("%s is there, but go list shows no package that its rule covers", r.pkg)
				}
			}
		})
	}
}

func exists(t *testing.T, folder string) bool {
	t.Helper()
	_, err := os.Stat(folder)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// list asks the go tool for the packages of this module. Without cgo the answer is the same on every machine.
func list(t *testing.T, platform string) []listed {
	t.Helper()
	goos, goarch, _ := strings.Cut(platform, "/")
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// testOnly is what the tests of the helper's packages may use beside the helper itself.
var testOnly = []string{"helper/...", "fstests/require", "fstests/edges", "fstests/harness"}

// faults lists what a package imports against its rule, each with the reason of the rule.
func faults(p listed) []string {
	name := ours(p.ImportPath)
	at := slices.IndexFunc(rules, func(r rule) bool { return covers(r.pkg, name) })
	if at < 0 {
		return []string{name + " has no rule: say in the table what it may import, and why"}
	}
	r := rules[at]
	var found []string
	for _, path := range p.Imports {
		if inside := ours(path); inside != "" && !anyCovers(r.ours, inside) || inside == "" && anyCovers(r.never, path) {
			found = append(found, name+" imports "+path+": "+r.why)
		}
	}
	for _, path := range p.Deps {
		if anyCovers(r.deps, path) {
			found = append(found, name+" depends on "+path+": "+r.why)
		}
	}
	for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
		inside := ours(path)
		if covers("cmd/...", inside) {
			found = append(found, "tests of "+name+" import "+path+": a program is run, not imported")
		}
		if covers("helper/...", name) && (covers(rclone+"/...", path) || inside != "" && !anyCovers(testOnly, inside)) {
			found = append(found, "tests of "+name+" import "+path+": the helper is tested without rclone and its backend")
		}
	}
	return found
}

// ours returns the path below the module, or "" for a package from outside.
func ours(path string) string {
	if inside, ok := strings.CutPrefix(path, module); ok {
		return inside
	}
	return ""
}

func anyCovers(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return covers(pattern, path) })
}

func covers(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	folder, below := strings.CutSuffix(pattern, "/...")
	return path == folder || below && strings.HasPrefix(path, folder+"/")
}

// TestFaults shows that the table forbids what it is there to forbid.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		pkg, imports string
		ok           bool
	}{
		{"helper/block", "bytes", true},
		{"helper/block", "os", false},
		{"helper/block", module + "helper/wire", false},
		{"helper/wire", module + "helper/block", true},
		{"helper/wire", module + "helper/delta", false},
		{"helper/delta", module + "helper/wire", true},
		{"helper/delta", module + "helper/device", false},
		{"helper/delta", "net", false},
		{"helper/delta", "net/netip", false},
		{"helper/delta", "os/exec", false},
		{"helper/delta", "golang.org/x/sys/unix", false},
		{"helper/device", module + "helper/block", false},
		{"helper/device", "golang.org/x/sys/unix", true},
		{"helper", module + "helper/device", true},
		{"helper", module + "helper/bundle", false},
		{"helper", rclone + "/fs", false},
		{"helper/manifest", "os", true},
		{"helper/manifest", module + "helper/device", false},
		{"helper/progress", "os", false},
		{"helper/tool", module + "helper/manifest", true},
		{"helper/tool", "net", false},
		{"helper", module + "helper/tool", false},
		{"backend/blocksync", module + "helper/progress", true},
		{"helper/bundle", "github.com/klauspost/compress/zstd", true},
		{"helper/bundle", module + "helper", false},
		{"backend/host", module + "helper/bundle", true},
		{"backend/host", module + "backend/blockdev", false},
		{"backend/blockdev", module + "backend/host", true},
		{"backend/blockdev", rclone + "/fs/operations", true},
		{"backend/blockdev", rclone + "/fs/sync", false},
		{"backend/blockdev", rclone + "/cmd", false},
		{"backend/blockdev", module + "backend/blocksync", false},
		{"backend/blocksync", rclone + "/cmd", true},
		{"backend/blocksync", module + "helper/device", false},
		{"backend/blockdev", module + "fstests/require", false},
		{"backend/blockdev", module + "cmd/demo", false},
		{"cmd/rclone-blockdev", rclone + "/cmd", true},
		{"cmd/rclone-blockdev", module + "fstests/harness", false},
		{"cmd/demo", module + "cmd/rclone-blockdev", false},
		{"fstests/edges", "io", false},
		{"fstests/harness", module + "helper/block", false},
		{"helper/novelty", "bytes", false},
	} {
		p := listed{ImportPath: module + c.pkg, Imports: []string{c.imports}, Deps: []string{c.imports}}
		if found := faults(p); (found == nil) != c.ok {
			t.Errorf("%s imports %s: allowed is %v, want %v: %q", c.pkg, c.imports, found == nil, c.ok, found)
		}
	}
	for _, p := range []listed{
		{ImportPath: module + "helper", Deps: []string{rclone + "/lib/pool"}},
		{ImportPath: module + "cmd/blockdev-helper", Deps: []string{"os/user"}},
		{ImportPath: module + "helper/wire", TestImports: []string{rclone + "/fs"}},
		{ImportPath: module + "helper/wire", XTestImports: []string{module + "backend/host"}},
		{ImportPath: module + "backend/host", XTestImports: []string{module + "cmd/demo"}},
	} {
		if faults(p) == nil {
			t.Errorf("no fault found in %+v", p)
		}
	}
}
