//go:build unix

package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// memory is the peak of the command's own process, and that of the largest helper, in bytes.
type memory struct{ command, helper int64 }

func (m memory) max(o memory) memory {
	return memory{max(m.command, o.command), max(m.helper, o.helper)}
}

// watchMemory looks at the command's process and at the helpers that run, until the returned function is called. What
// the system reports of a process that has ended would include that of this one, from which it was made.
func watchMemory(pid int) (stop func() memory) {
	done, result := make(chan struct{}), make(chan memory)
	go func() {
		var peak memory
		for {
			peak = peak.max(look(pid))
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

func look(pid int) (now memory) {
	files, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		switch {
		case bytes.HasPrefix(text, []byte("Name:\thelper-")):
			now.helper = max(now.helper, peakOf(text))
		case bytes.Contains(text, fmt.Appendf(nil, "\nPid:\t%d\n", pid)):
			now.command = peakOf(text)
		}
	}
	return now
}

// peakOf reads the peak memory from a status file.
func peakOf(status []byte) int64 {
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(kib)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}
