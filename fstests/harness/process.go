package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Processes gives the arguments of each process by its id, the program first. It reads /proc and finds none on
// systems that have no such folder.
func Processes() map[int][]string {
	all := map[int][]string{}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is correct, which is the only error
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		if text, err := os.ReadFile(file); err == nil && len(text) > 0 { // else it ended, or belongs to the kernel
			all[pid] = strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		}
	}
	return all
}

// descendants lists the processes that come from pid, children before grandchildren, without pid itself.
// It reads /proc and finds none on systems that have no such folder.
func descendants(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is correct, which is the only error
	children := map[int][]int{}
	for _, path := range stats {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if parent := parentOf(path); parent > 0 {
			children[parent] = append(children[parent], child)
		}
	}
	var all []int
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		all = append(all, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return all
}

// parentOf reads the parent from a stat file, or returns 0 when the process has ended.
func parentOf(path string) int {
	fields := statFields(path)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// statFields are the fields of a stat file from the third on, none when the process has ended.
func statFields(path string) []string {
	stat, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	// The second field is the name in parentheses and may itself contain spaces and parentheses.
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}

// processorTime is what a process and its descendants that have ended used. It waits a moment for those that are
// about to end, and is 0 on systems without /proc.
func processorTime(pid int) (used time.Duration) {
	for end := time.Now().Add(2 * time.Second); len(descendants(pid)) > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	const first, last, tick = 11, 14, 10 * time.Millisecond // user, system, and the same of children; proc(5)
	fields := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	for i := first; i <= last && i < len(fields); i++ {
		n, _ := strconv.ParseInt(fields[i], 10, 64) // the kernel writes numbers
		used += time.Duration(n) * tick
	}
	return used
}
