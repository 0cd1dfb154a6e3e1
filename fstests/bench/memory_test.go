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

// watchMemory looks at the command's process and at the helpers that run, until the returned function is called, which
// gives the peak memory of the largest of them in bytes. What the system reports of a process that has ended would
// include that of this one, from which it was made.
func watchMemory(pid int) (stop func() int64) {
	done, result := make(chan struct{}), make(chan int64)
	go func() {
		var peak int64
		for {
			peak = max(peak, memory(pid))
			select {
			case <-done:
				result <- peak
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() int64 { close(done); return <-result }
}

func memory(pid int) (peak int64) {
	files, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !bytes.HasPrefix(text, []byte("Name:\thelper-")) && !bytes.Contains(text, fmt.Appendf(nil, "\nPid:\t%d\n", pid)) {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				n, _ := strconv.ParseInt(strings.Fields(kib)[0], 10, 64)
				peak = max(peak, n<<10)
			}
		}
	}
	return peak
}
