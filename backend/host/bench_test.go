package host

import (
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// BenchmarkConnect logs in, starts a helper that is installed and looks at a directory: what each command waits for.
func BenchmarkConnect(b *testing.B) {
	require.Need(b, require.Sshd)
	cfg := serverConfig(harness.Sshd(b))
	cfg.HelperPath = harness.Bin(b, "blockdev-helper")
	for b.Loop() {
		h := newHost(cfg)
		s, err := h.Session(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Stat(b.Context(), "/"); err != nil {
			b.Fatal(err)
		}
		s.Release()
		h.CloseIdle()
	}
}
