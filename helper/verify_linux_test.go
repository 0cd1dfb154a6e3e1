package helper

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/delta"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// finishing is the link of a sender, with something to be done before it finishes.
type finishing struct {
	*client
	do      func()
	notices int
}

// Next takes the notices out.
func (f *finishing) Next(ctx context.Context, idle func() error) (wire.Frame, error) {
	for {
		m, err := f.client.Next(ctx, idle)
		if err != nil || m.Type != wire.TypeNotice {
			return m, err
		}
		m.Release()
		f.notices++
	}
}

func (f *finishing) Write(m wire.Message) error {
	if _, ok := m.(*wire.Finish); ok {
		f.do()
	}
	return f.client.Write(m)
}

// A byte that changes below the device after it was written, and before the copy is complete, is found and written again.
func TestServe_Verify(t *testing.T) {
	require.Need(t, require.Root, require.Loop)
	const size = 8 << 20
	source := bytes.Repeat([]byte("what the source has "), size/20+1)[:size]
	for _, tt := range []struct {
		name   string
		verify wire.Verification
		equal  bool // the byte is where nothing was written
		found  bool
	}{
		{"off", wire.VerifyOff, false, false},
		{"written", wire.VerifyWritten, false, true},
		{"not written", wire.VerifyWritten, true, false},
		{"full", wire.VerifyFull, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const at = 5<<20 + 123
			before := make([]byte, size)
			if tt.equal {
				copy(before[4<<20:7<<20], source[4<<20:7<<20])
			}
			backing := filepath.Join(t.TempDir(), "disk.img")
			if err := os.WriteFile(backing, before, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("losetup", "--find", "--show", backing).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			dev := strings.TrimSpace(string(out))
			t.Cleanup(func() { exec.Command("losetup", "-d", dev).Run() })
			held, err := os.Open(dev) // a device that is open keeps its cache, and what was cached before stays there
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			if _, err := io.Copy(io.Discard, held); err != nil {
				t.Fatal(err)
			}
			c := connect(t, Policy{})
			req := openWrite(dev, size)
			req.Verify = tt.verify
			c.call(req, new(wire.Opened))
			r := block.Range{Length: size, BlockSize: block.DefaultSize}
			c.send(wire.NewReceive(r, delta.Window))
			link := &finishing{client: c, do: func() { changeBelow(t, dev, backing, at) }}
			_, err = delta.Send(t.Context(), link, memdev.FromBytes(source), r, delta.Window, compress.NewEncoder(wire.CompressOff))
			if err == nil {
				_, err = c.end()
			}
			if err != nil {
				t.Error(err)
			}
			now, err := os.ReadFile(backing)
			if repaired := bytes.Equal(now, source); err != nil || repaired != tt.found {
				t.Errorf("the changed byte was found: %v, %v", repaired, err)
			}
			if told := link.notices > 0; told != tt.found {
				t.Errorf("%d notices", link.notices)
			}
			c.usable()
			c.call(&wire.Close{}, nil)
			c.hangUp()
		})
	}
}

// changeBelow writes back what the cache of dev has, and changes a byte in the file below it.
func changeBelow(t *testing.T, dev, backing string, at int64) {
	for _, path := range []string{dev, backing} {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		if path == backing {
			if _, err := f.WriteAt([]byte{0xff}, at); err != nil {
				t.Error(err)
			}
		}
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
		f.Close()
	}
}
