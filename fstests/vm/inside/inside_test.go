//go:build vm

package inside

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const mib = 1 << 20

// run runs a program of the system and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := require.Program(name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// dm makes a device of the device mapper with that table, until the test ends.
func dm(t *testing.T, name, table string, options ...string) string {
	t.Helper()
	run(t, "dmsetup", append(append([]string{"create"}, options...), name, "--table", table)...)
	t.Cleanup(func() { run(t, "dmsetup", "remove", name) })
	return filepath.Join("/dev/mapper", name)
}

// sectors is a number of bytes in the unit of dmsetup.
func sectors(n int64) string { return strconv.FormatInt(n/512, 10) }

// session is a helper in this process.
func session(t *testing.T) *host.Session {
	t.Helper()
	s, err := host.Get(host.Config{Host: host.Localhost}).Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Release)
	return s
}

// opened gives a session on which path is open, to write size bytes or, when size is negative, to read. Followers
// come after one that leads.
func opened(t *testing.T, path string, size int64, lead bool) (*host.Session, error) {
	t.Helper()
	s := session(t)
	req := new(wire.Open)
	req.Path = path
	if size >= 0 {
		req.Write, req.Lead, req.Size, req.Claim = true, lead, size, wire.Claim{1}
	}
	_, err := s.Open(t.Context(), req)
	t.Cleanup(func() { _ = s.Close(context.Background(), false, 0) })
	return s, err
}

// openedTo is opened for a writer that is alone, with a way to zero.
func openedTo(t *testing.T, path string, size int64, zero wire.Zeroing) (*host.Session, error) {
	t.Helper()
	s := session(t)
	req := &wire.Open{Write: true, Size: size, Zero: zero}
	req.Path = path
	_, err := s.Open(t.Context(), req)
	t.Cleanup(func() { _ = s.Close(context.Background(), false, 0) })
	return s, err
}

// sync brings dst to the content of src in that many streams, as the backend does, and checks it.
func sync(t *testing.T, src, dst string, size int64, streams int) {
	t.Helper()
	syncOnly(t, src, dst, size, streams)
	harness.Settle(t, dst)
	harness.Same(t, src, dst)
}

// syncOnly is sync without the check.
func syncOnly(t *testing.T, src, dst string, size int64, streams int) {
	t.Helper()
	var targets []*host.Session
	for i := range streams {
		from, err := opened(t, src, -1, false)
		if err != nil {
			t.Fatal(err)
		}
		to, err := opened(t, dst, size, i == 0)
		if err != nil {
			t.Fatal(err)
		}
		targets = append(targets, to)
		defer from.Close(context.Background(), false, 0)
		part := size / int64(streams)
		r := block.Range{Offset: int64(i) * part, Length: part, BlockSize: block.DefaultSize}
		if _, err := host.Join(t.Context(), from, to, r, func(int64) {}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range targets { // the leader ends last
		if err := targets[len(targets)-1-i].Close(t.Context(), true, 1); err != nil {
			t.Fatal(err)
		}
	}
}

// refused checks code and text of an error.
func refused(t *testing.T, err error, code wire.Code, words ...string) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Fatalf("got %v, want code %d", err, code)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

// reload changes the table of a device of the device mapper.
func reload(t *testing.T, dev, table string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "table")
	if err := os.WriteFile(file, []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "dmsetup", "reload", dev, file)
	run(t, "dmsetup", "resume", dev)
}

// copyOnce is a copy that may fail.
func copyOnce(t *testing.T, src, dst string, size int64) error {
	t.Helper()
	from, err := opened(t, src, -1, false)
	if err != nil {
		return err
	}
	defer from.Close(context.Background(), false, 0)
	to, err := opened(t, dst, size, true)
	if err != nil {
		return err
	}
	defer to.Close(context.Background(), false, 0)
	if _, err := host.Join(t.Context(), from, to, block.Range{Length: size, BlockSize: block.DefaultSize}, func(int64) {}); err != nil {
		return err
	}
	return to.Close(t.Context(), true, 1)
}
