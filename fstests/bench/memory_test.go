//go:build unix

package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// memory is the peak of the largest process in bytes, of those that a command consists of and of those that it runs on
// the host. The programs ssh and sshd do not count: they would hide tools that are smaller.
type memory struct{ command, host int64 }

func (m memory) max(o memory) memory {
	return memory{max(m.command, o.command), max(m.host, o.host)}
}

// watchMemory looks at the processes that come from a command and at those that come from sshd, until the returned
// function is called. What the system reports of a process that has ended would include that of this one, from which
// it was made.
func watchMemory(command, sshd int) (stop func() memory) {
	done, result := make(chan struct{}), make(chan memory)
	go func() {
		var peak memory
		for {
			peak = peak.max(look(command, sshd))
			select {
			case <-done:
				result <- peak
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return func() memory { close(done); return <-result }
}

func look(command, sshd int) memory {
	return memory{highest(command), highest(sshd)}
}

// highest is the peak of the largest process of pid and those that come from it. The kernel lists these: looking through
// all processes takes a sixth of a core, which tools that use every core would miss.
func highest(pid int) (peak int64) {
	dir := fmt.Sprint("/proc/", pid)
	text, err := os.ReadFile(dir + "/status")
	if err != nil {
		return 0 // it has ended
	}
	if name, kib := parse(string(text)); !strings.HasPrefix(name, "ssh") {
		peak = kib << 10
	}
	lists, _ := filepath.Glob(dir + "/task/*/children") // the pattern is correct, which is the only error
	for _, list := range lists {
		children, _ := os.ReadFile(list) // not there when the thread has ended
		for _, child := range strings.Fields(string(children)) {
			if n, err := strconv.Atoi(child); err == nil {
				peak = max(peak, highest(n))
			}
		}
	}
	return peak
}

// parse takes from a status file what matters here: the name, and the peak of what is in memory in KiB.
func parse(status string) (name string, peak int64) {
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch key {
		case "Name":
			name = value
		case "VmHWM":
			peak, _ = strconv.ParseInt(strings.Fields(value)[0], 10, 64) // the kernel writes numbers
		}
	}
	return name, peak
}
