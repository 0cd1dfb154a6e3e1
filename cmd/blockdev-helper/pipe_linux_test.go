package main

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenStream_PipeSize(t *testing.T) {
	in, _ := pipe(t)
	_, out := pipe(t)
	if _, err := openStream(in, out); err != nil {
		t.Fatal(err)
	}
	for _, end := range []struct {
		f    *os.File
		want int
	}{{in, inputPipe}, {out, outputPipe}} {
		size := 0
		if err := control(end.f, func(fd int) (err error) {
			size, err = unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
			return err
		}); err != nil || size != end.want {
			t.Errorf("%d bytes, %v, want %d", size, err, end.want)
		}
	}
	// Files are served as they are.
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if s, err := openStream(file, file); err != nil || s.in != file || s.out != file {
		t.Errorf("%v, %v", s, err)
	}
}
