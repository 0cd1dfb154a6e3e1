//go:build linux

package vm

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// What was flushed is in the file, and what was not is what the machine reads until the power is cut.
func TestDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 64*diskBlock), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDisk(path, "disk")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	durable, volatile := bytes.Repeat([]byte{1}, 512), bytes.Repeat([]byte{2}, 40*diskBlock)
	if err := d.writeAt(durable, 3*512); err != nil {
		t.Fatal(err)
	}
	if err := d.sync(); err != nil {
		t.Fatal(err)
	}
	if err := d.writeAt(volatile, diskBlock); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 41*diskBlock)
	if err := d.readAt(got, 0); err != nil || !bytes.Equal(got[diskBlock:], volatile) || !bytes.Equal(got[3*512:4*512], durable) {
		t.Errorf("the machine reads something else, %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || bytes.Contains(b, []byte{2}) || !bytes.Equal(b[3*512:4*512], durable) {
		t.Errorf("the file is not what was flushed, %v", err)
	}

	if err := d.cut(rand.New(rand.NewPCG(1, 0)), 0.5); err != nil {
		t.Fatal(err)
	}
	if err := d.writeAt(durable, 60*diskBlock); err != nil { // without power
		t.Fatal(err)
	}
	d.power()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := d.Counts()
	stored := int64(bytes.Count(b, []byte{2}))
	if want := (Counts{Written: 512 + 40*diskBlock, Lost: 40*diskBlock - stored, Flushes: 1}); c != want || stored == 0 || c.Lost == 0 {
		t.Errorf("%+v, and %d bytes were stored", c, stored)
	}
	if !bytes.Equal(b[3*512:4*512], durable) || b[60*diskBlock] != 0 {
		t.Error("what was durable is lost, or what was written without power is there")
	}
}
