package blockdev

import (
	"os"
	"syscall"
	"testing"
)

// Looking at devices does not open them: that could spin up a disk. Opening one is seen by the same means.
func TestDevice_NotOpened(t *testing.T) {
	d, f, o := loop(t, make([]byte, 1<<20))
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if _, err := syscall.InotifyAddWatch(fd, d.Path, syscall.IN_OPEN); err != nil {
		t.Fatal(err)
	}
	opened := func() bool {
		n, _ := syscall.Read(fd, make([]byte, 4096))
		return n > 0
	}
	if _, err := f.List(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	find(t, f, o.Remote())
	if opened() {
		t.Errorf("%s was opened", d.Path)
	}
	if file, err := os.Open(d.Path); err != nil || file.Close() != nil || !opened() {
		t.Errorf("an open is not seen: %v", err)
	}
}
