package snapshot

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// A clone of a file stays as it is; only what has the mark is removed.
func TestReflink(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) { testReflink(t, mounted(t, kind)) })
	}
}

func testReflink(t *testing.T, dir string) {
	s := newStage(t)
	s.image = filepath.Join(dir, "disk.img")
	s.put(s.image, "before")
	spec := &Spec{Owner: newOwner(), Path: s.image, Kind: Reflink, Grace: time.Minute}
	h := s.prepare(spec)
	s.put(s.image, "after!")
	clone, _ := h.Device(s.image)
	if text, err := os.ReadFile(clone); err != nil || string(text) != "before" || filepath.Dir(clone) != filepath.Dir(s.image) {
		t.Errorf("%s: %q, %v", clone, text, err)
	}
	h.Release()
	if err := Conclude(t.Context(), spec.Owner, Success, true, s.notice); err != nil || exists(clone) {
		t.Errorf("%v", err)
	}
	// One that somebody else has put there under such a name.
	s.put(clone, "not ours")
	err := reflink{}.drop(t.Context(), spec, &h.st.Members[0])
	if !errors.Is(err, device.ErrRefused) || !exists(clone) {
		t.Errorf("removed what is not ours: %v", err)
	}
	if err := unix.Setxattr(clone, cloneMark, []byte(spec.Owner), 0); err != nil {
		t.Fatal(err)
	}
	m := Member{Path: s.image, Kind: Reflink, Name: s.image}
	if err := (reflink{}).drop(t.Context(), spec, &m); err == nil {
		t.Error("removed the image itself")
	}
}

func (s *stage) put(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// On a file system without clones that is said.
func TestReflink_Unsupported(t *testing.T) {
	s := newStage(t)
	s.image = filepath.Join(mounted(t, "ext4"), "disk.img")
	s.put(s.image, "x")
	s.fails(&Spec{Owner: newOwner(), Path: s.image, Kind: Reflink}, device.ErrUnsupported, "cannot clone files")
}
