//go:build vm

package inside

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/vm"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

const scsiSize = 8 * mib

// scsi makes a simulated SCSI disk until the test ends.
func scsi(t *testing.T, parameters string) string {
	t.Helper()
	if err := vm.Load("scsi_debug", "dev_size_mb=8 delay=0 "+parameters); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 50 { // the last request may still be on its way
			if err := vm.Unload("scsi_debug"); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Error("the disk cannot be removed")
	})
	for range 100 { // disks are found in the background
		found, _ := filepath.Glob("/sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/sd*")
		if len(found) == 1 {
			if path := filepath.Join("/dev", filepath.Base(found[0])); exists(path) {
				return path
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the disk does not appear")
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// What is zeroed reads as zeros and nothing else changes, whatever a disk makes of requests to forget data: lbprz=0
// keeps it, lbprz=2 gives ones. With lbpws and a granularity the simulated disk is wrong as real ones are: of a WRITE SAME
// that may unmap it forgets to zero the ends, which the standard demands. A copy after that is right too.
func TestScsi_Zero(t *testing.T) {
	for _, c := range []struct{ name, parameters string }{
		{"Nothing", ""},
		{"Unmap", "lbpu=1 lbprz=1"},
		{"UnmapKeeps", "lbpu=1 lbprz=0"},
		{"UnmapGivesOnes", "lbpu=1 lbprz=2"},
		{"WriteSame16", "lbpws=1 lbprz=1"},
		{"WriteSame16Keeps", "lbpws=1 lbprz=0"},
		{"WriteSame10", "lbpws10=1 lbprz=1"},
		{"WriteSame10GivesOnes", "lbpws10=1 lbprz=2"},
		{"Coarse", "lbpu=1 lbprz=1 unmap_granularity=128 unmap_alignment=7 unmap_max_blocks=1000"},
		{"WriteSame16Coarse", "lbpws=1 lbprz=1 unmap_granularity=128 unmap_alignment=7"},
		{"WriteSame10Coarse", "lbpws10=1 lbprz=1 unmap_granularity=1024"},
		{"Sectors4096", "sector_size=4096"},
		{"Sectors4096Unmap", "sector_size=4096 lbpu=1 lbpws=1 lbprz=1"},
		{"Sectors4096Keeps", "sector_size=4096 lbpu=1 lbpws=1 lbprz=0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			harness.Tried(t, "scsi-zero", 1)
			dev := scsi(t, c.parameters)
			src := harness.Image{Size: scsiSize, Seed: 1}.File(t)
			sync(t, src, dev, scsiSize, 1)
			model, err := os.ReadFile(src)
			if err != nil {
				t.Fatal(err)
			}
			o, err := device.OpenWrite(dev, device.WriteOptions{Size: scsiSize})
			if err != nil {
				t.Fatal(err)
			}
			defer o.Abort()
			for _, r := range [][2]int64{{3, 5}, {4096, 4096}, {10_000, 20_001}, {mib - 1, 2*mib + 2}, {4*mib + 512, 2 * mib}, {scsiSize - 5000, 5000}} {
				if err := o.Zero(r[0], r[1]); err != nil {
					t.Fatalf("%d bytes at %d: %v", r[1], r[0], err)
				}
				clear(model[r[0] : r[0]+r[1]])
			}
			if err := o.Commit(time.Time{}); err != nil {
				t.Fatal(err)
			}
			harness.Settle(t, dev)
			if !bytes.Equal(harness.ReadBack(t, dev), model) {
				t.Error("content differs from the model")
			}
			erase(t, src, 3*mib, 3*mib)
			sync(t, src, dev, scsiSize, 2)
		})
	}
}

// A disk that fails to write fails the copy, and the next one makes it good.
func TestFaults_Write(t *testing.T) {
	const size = 8 * mib
	backing := harness.Loop(t, size).Path
	table := "0 " + sectors(size) + " linear " + backing + " 0"
	target := dm(t, "target", table)
	src := harness.Image{Size: size, Seed: 2}.File(t)
	broken := "0 8192 linear " + backing + " 0\n8192 8 error\n8200 " + sectors(size-8200*512) + " linear " + backing + " 8200\n"
	for _, c := range []struct{ name, table string }{
		{"BadSector", broken},
		{"FailsAfterReading", "0 " + sectors(size) + " flakey " + backing + " 0 0 60 1 error_writes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			harness.Tried(t, "write-again", 1)
			reload(t, target, c.table)
			err := copyOnce(t, src, target, size)
			reload(t, target, table)
			if err == nil {
				t.Fatal("the copy is a success")
			}
			t.Log(err)
			sync(t, src, target, size, 1)
			erase(t, src, 0, 2*mib)
		})
	}
}
