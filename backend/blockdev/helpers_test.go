package blockdev

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/rclone/rclone/backend/local"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/accounting"
	"github.com/rclone/rclone/fs/config"
	"github.com/rclone/rclone/fs/config/configfile"
	"github.com/rclone/rclone/fs/log"
	"github.com/rclone/rclone/fs/object"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
)

// TestMain gives all tests a configuration file that does not exist.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "blockdev")
	if err == nil {
		err = config.SetConfigPath(filepath.Join(dir, "rclone.conf"))
	}
	if err == nil {
		err = config.SetCacheDir(filepath.Join(dir, "cache"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	configfile.Install()
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// leakless checks for leaks when the idle helpers have ended. What was found of files is
// forgotten then: the file system gives their numbers to those of the next test.
func leakless(t *testing.T) {
	t.Helper()
	harness.Goroutines(t)
	t.Cleanup(host.CloseIdle)
	t.Cleanup(func() {
		names.mu.Lock()
		defer names.mu.Unlock()
		clear(names.found)
	})
}

// newFs makes the Fs of a remote as it is typed.
func newFs(t *testing.T, remote string) fs.Fs {
	t.Helper()
	f, err := fs.NewFs(t.Context(), remote)
	if err != nil {
		t.Fatalf("%s: %v", remote, err)
	}
	return f
}

// here gives the Fs of a directory of this machine.
func here(t *testing.T, dir string) fs.Fs {
	t.Helper()
	leakless(t)
	return newFs(t, "blockdev:localhost"+dir)
}

func find(t *testing.T, f fs.Fs, remote string) fs.Object {
	t.Helper()
	o, err := f.NewObject(t.Context(), remote)
	if err != nil {
		t.Fatalf("%s: %v", remote, err)
	}
	return o
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// same fails unless the file has that content.
func same(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, want %d, or other content; %v", path, len(got), len(want), err)
	}
}

var when = time.Date(2001, 2, 3, 4, 5, 6, 123456789, time.UTC)

// info describes a source that is no object.
func info(remote string, size int64) fs.ObjectInfo {
	return object.NewStaticObjectInfo(remote, when, size, true, nil, nil)
}

func put(f fs.Fs, remote string, data []byte) (fs.Object, error) {
	return f.Put(context.Background(), bytes.NewReader(data), info(remote, int64(len(data))))
}

func contents(t *testing.T, o fs.Object, options ...fs.OpenOption) []byte {
	t.Helper()
	r, err := o.Open(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return data
}

// logged collects what is logged at INFO and above, as JSON.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func listen(t *testing.T) *logged {
	t.Helper()
	l := new(logged)
	ci := fs.GetConfig(context.Background())
	old := *ci
	ci.LogLevel, ci.UseJSONLog = fs.LogLevelInfo, true
	log.Handler.SetLevel(slog.LevelInfo)
	log.Handler.SetOutput(func(level slog.Level, text string) {})
	log.Handler.AddOutput(true, func(level slog.Level, text string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, text)
	})
	t.Cleanup(func() {
		*ci = old
		log.Handler.ResetOutput()
	})
	return l
}

// text is all that was logged so far.
func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// counter is a number of the last line that has it, -1 without one.
func (l *logged) counter(key string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.lines) - 1; i >= 0; i-- {
		var fields map[string]any
		if json.Unmarshal([]byte(l.lines[i]), &fields) == nil {
			if n, ok := fields[key].(float64); ok {
				return int64(n)
			}
		}
	}
	return -1
}

// stats gives the context of a group of transfers of its own, and their totals.
func stats(t *testing.T) (context.Context, *accounting.StatsInfo) {
	ctx := accounting.WithStatsGroup(t.Context(), t.Name())
	s := accounting.Stats(ctx)
	s.ResetCounters()
	s.ResetErrors()
	return ctx, s
}
