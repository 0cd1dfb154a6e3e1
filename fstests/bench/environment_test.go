//go:build unix

package bench

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain writes what the figures depend on above them, in lines of the benchmark format, so that a report can be made
// of the output alone.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() != "" {
		environment()
	}
	os.Exit(m.Run())
}

func environment() {
	line := func(key, value string) {
		if value != "" {
			fmt.Printf("%s: %s\n", key, value)
		}
	}
	line("date", time.Now().UTC().Format(time.DateOnly))
	line("cores", fmt.Sprint(runtime.NumCPU()))
	line("memory", memoryOfMachine())
	line("kernel", said(`.+`, "uname", "-sr"))
	load, _ := os.ReadFile("/proc/loadavg") // not on every system
	line("load", strings.Split(string(load), " ")[0])
	size, err := imageSize()
	if source := os.Getenv(sourceVariable); source != "" {
		line("source", source)
		line("target", os.Getenv(targetVariable))
		size, err = length(source)
	}
	if err == nil { // else the benchmarks tell
		line("image", fmt.Sprint(size))
	}
	line("version-blockdev", said(`.+`, "git", "describe", "--always", "--dirty"))
	line("version-ssh", said(`OpenSSH_([^\s,]+)`, "ssh", "-V"))
	var seen []string
	for _, name := range append(slices.Clone(peers), "cat") {
		if program := program(name); program != "blockdev" && !slices.Contains(seen, program) {
			seen = append(seen, program)
			line("version-"+program, version(program))
		}
	}
}

// said is what the pattern, or the group in it, finds in what a program prints; nothing where it fails.
func said(pattern, name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	found := regexp.MustCompile(pattern).FindStringSubmatch(string(out))
	if err != nil || found == nil {
		return ""
	}
	return found[len(found)-1]
}

// version is that of a program on PATH, or a part of the digest of one that has no option to tell it.
func version(program string) string {
	path, err := exec.LookPath(program)
	if err != nil {
		return ""
	}
	if text := said(`[0-9]+\.[0-9]+[^\s,]*`, path, "--version"); text != "" {
		return text
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("not told, SHA-256 begins with %x", sha256.Sum256(b))[:38]
}

func memoryOfMachine() string {
	text, _ := os.ReadFile("/proc/meminfo") // not on every system
	var kib int64
	if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kib); err != nil {
		return ""
	}
	return fmt.Sprintf("%d GiB", (kib+1<<19)>>20)
}
