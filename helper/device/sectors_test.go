package device

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
)

// strict is a disk that only takes whole sectors.
type strict struct{ *memdev.Device }

var errUnaligned = errors.New("not whole sectors")

func (s strict) ReadAt(p []byte, off int64) (int, error) {
	if off%512 != 0 || len(p)%512 != 0 {
		return 0, errUnaligned
	}
	return s.Device.ReadAt(p, off)
}

func (s strict) WriteAt(p []byte, off int64) (int, error) {
	if off%512 != 0 || len(p)%512 != 0 {
		return 0, errUnaligned
	}
	return s.Device.WriteAt(p, off)
}

func TestSectors_AnyRange(t *testing.T) {
	const size = 4 * 512
	disk := memdev.FromBytes(pattern(size))
	s := sectors{f: strict{disk}, unit: 512, mu: new(sync.Mutex)}
	model := pattern(size)
	for _, r := range [][2]int{{0, 512}, {1, 1}, {511, 2}, {100, 1500}, {512, 1024}, {2047, 1}, {0, 2048}, {700, 0}} {
		b := bytes.Repeat([]byte{byte(r[1])}, r[1])
		if n, err := s.WriteAt(b, int64(r[0])); n != r[1] || err != nil {
			t.Fatalf("write %v: %d, %v", r, n, err)
		}
		copy(model[r[0]:], b)
		if !bytes.Equal(disk.Bytes(), model) {
			t.Fatalf("write %v changed something else", r)
		}
	}
	if err := iotest.TestReader(io.NewSectionReader(s, 0, size), model); err != nil {
		t.Error(err)
	}
	broken := errors.New("bad sector")
	disk.Inject(memdev.Fault{Op: memdev.Read, Off: 1024, Err: broken})
	if n, err := s.ReadAt(make([]byte, 1000), 500); n != 524 || !errors.Is(err, broken) {
		t.Errorf("bad sector: %d, %v", n, err)
	}
}
