package memdev

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

func TestDevice_Model(t *testing.T) {
	const size = 5*pageSize + 77
	d, model := New(size), make([]byte, size)
	rnd := rand.New(rand.NewPCG(1, 2))
	for step := range 3000 {
		off := rnd.Int64N(size)
		n := rnd.Int64N(min(2*pageSize, size-off) + 1)
		if step%3 == 0 {
			if err := d.Zero(off, n); err != nil {
				t.Fatal(err)
			}
			clear(model[off : off+n])
		} else {
			b := bytes.Repeat([]byte{byte(step) | 1}, int(n))
			if _, err := d.WriteAt(b, off); err != nil {
				t.Fatal(err)
			}
			copy(model[off:], b)
		}
		if !bytes.Equal(d.Bytes(), model) {
			t.Fatalf("step %d: content differs from the model", step)
		}
		from, to, err := d.Data(0, size)
		if err != nil || bytes.Count(model[:from], []byte{0}) != int(from) || to < from {
			t.Fatalf("step %d: Data says [%d,%d), %v", step, from, to, err)
		}
	}
	if err := iotest.TestReader(io.NewSectionReader(d, 0, size), model); err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(io.NewSectionReader(FromBytes(model), 0, size), model); err != nil {
		t.Fatal(err)
	}
}

func TestDevice_Data(t *testing.T) {
	d := New(1 << 50)
	for _, off := range []int64{3 * pageSize, 4*pageSize + 9, 1 << 40} {
		if _, err := d.WriteAt([]byte{1}, off); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct{ off, end, start, stop int64 }{
		{0, 1 << 50, 3 * pageSize, 5 * pageSize},
		{4*pageSize + 1, 1 << 50, 4*pageSize + 1, 5 * pageSize},
		{0, 3*pageSize + 5, 3 * pageSize, 3*pageSize + 5},
		{5 * pageSize, 1 << 40, 1 << 40, 1 << 40},
		{5 * pageSize, 1 << 50, 1 << 40, 1<<40 + pageSize},
		{1<<40 + pageSize, 1 << 50, 1 << 50, 1 << 50},
		{7, 7, 7, 7},
	}
	for _, tt := range tests {
		start, stop, err := d.Data(tt.off, tt.end)
		if err != nil || start != tt.start || stop != tt.stop {
			t.Errorf("Data(%d, %d) = %d, %d, %v; want %d, %d", tt.off, tt.end, start, stop, err, tt.start, tt.stop)
		}
	}
}

func TestDevice_Bounds(t *testing.T) {
	d := New(10)
	if n, err := d.ReadAt(make([]byte, 8), 4); n != 6 || err != io.EOF {
		t.Errorf("read over the end: %d, %v", n, err)
	}
	if _, err := d.WriteAt(make([]byte, 8), 4); !errors.Is(err, errOutside) {
		t.Errorf("write over the end: %v", err)
	}
	if err := d.Zero(-1, 2); !errors.Is(err, errOutside) {
		t.Errorf("zero before the start: %v", err)
	}
	if c := d.Counts(); c.BytesWritten != 0 || c.BytesRead != 6 {
		t.Errorf("counts %+v", c)
	}
}

func TestDevice_Inject(t *testing.T) {
	broken := errors.New("broken")
	t.Run("Read", func(t *testing.T) {
		d := New(4 * pageSize)
		d.Inject(Fault{Op: Read, Off: 5000, Err: broken})
		if n, err := d.ReadAt(make([]byte, 8192), 0); n != 5000 || !errors.Is(err, broken) {
			t.Errorf("across the fault: %d, %v", n, err)
		}
		if n, err := d.ReadAt(make([]byte, 4096), 8192); n != 4096 || err != nil {
			t.Errorf("elsewhere: %d, %v", n, err)
		}
		d.Heal()
		if _, err := d.ReadAt(make([]byte, 8192), 0); err != nil {
			t.Errorf("healed: %v", err)
		}
	})
	t.Run("After", func(t *testing.T) {
		d := New(pageSize)
		d.Inject(Fault{Op: Sync, Off: Anywhere, After: 2, Times: 1, Err: broken})
		for i, want := range []error{nil, nil, broken, nil} {
			if err := d.Sync(); !errors.Is(err, want) {
				t.Errorf("sync %d: %v, want %v", i, err, want)
			}
		}
	})
	t.Run("Flip", func(t *testing.T) {
		d := New(pageSize)
		d.Inject(Fault{Op: Write, Off: 100, Flip: 0x80, Times: 1})
		for _, want := range []byte{0x81, 1} {
			if _, err := d.WriteAt(bytes.Repeat([]byte{1}, 200), 0); err != nil {
				t.Fatal(err)
			}
			if got := d.Bytes()[100]; got != want {
				t.Errorf("byte 100 is %#x, want %#x", got, want)
			}
		}
	})
}

func TestDevice_Crash(t *testing.T) {
	d := FromBytes(bytes.Repeat([]byte{1}, 3*pageSize))
	write := func(b byte, off int64) {
		t.Helper()
		if _, err := d.WriteAt([]byte{b}, off); err != nil {
			t.Fatal(err)
		}
	}
	write(2, 0)
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	want := d.Bytes()
	write(3, 0)
	write(4, 0)
	if err := d.Zero(pageSize, pageSize); err != nil {
		t.Fatal(err)
	}
	write(5, pageSize+1)
	d.Crash()
	if !bytes.Equal(d.Bytes(), want) {
		t.Error("the crash did not bring the synced content back")
	}
}
