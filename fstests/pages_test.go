package fstests

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/pages"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// papers are for those who read or change the code. Their blocks are formats and pictures, with nothing to be run.
var papers = []string{"design.md", "protocol.md", "benchmarks.md", "reliability.md"}

// TestPages runs the pages for users, each as a script.
func TestPages(t *testing.T) {
	require.Need(t, require.Stage, require.Mkfs, require.Xfs, require.Fuse, require.Sudo, require.Restic, require.Borg, require.Qemu, require.Xxd, require.Jq, require.Rsync)
	files := []string{"../README.md"}
	err := filepath.WalkDir("../docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" && !slices.Contains(papers, filepath.Base(path)) {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 2 {
		t.Fatalf("no pages found: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".md"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			steps, err := pages.Parse(string(text))
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			pages.Run(t, steps)
		})
	}
}
