//go:build unix

package bench

import (
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
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() memory { close(done); return <-result }
}

// process is what matters here of a status file.
type process struct {
	name   string
	parent int
	peak   int64
}

func look(command, sshd int) (now memory) {
	all := map[int]process{}
	files, _ := filepath.Glob("/proc/[0-9]*/status") // the pattern is correct, which is the only error
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		if text, err := os.ReadFile(file); err == nil { // else it has ended
			all[pid] = parse(string(text))
		}
	}
	for pid, p := range all {
		switch {
		case strings.HasPrefix(p.name, "ssh"):
		case comesFrom(all, pid, command):
			now.command = max(now.command, p.peak)
		case comesFrom(all, pid, sshd):
			now.host = max(now.host, p.peak)
		}
	}
	return now
}

// comesFrom reports whether pid is ancestor or comes from it.
func comesFrom(all map[int]process, pid, ancestor int) bool {
	for range len(all) { // ids are given anew, so there could be a circle
		if pid == ancestor || pid == 0 {
			break
		}
		pid = all[pid].parent
	}
	return pid == ancestor
}

func parse(status string) (p process) {
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch key {
		case "Name":
			p.name = value
		case "PPid":
			p.parent, _ = strconv.Atoi(value) // the kernel writes numbers
		case "VmHWM":
			kib, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			p.peak = kib << 10
		}
	}
	return p
}
