package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

const (
	blockSize = 4 << 10 // what rclone-blockdev compares by
	areaSize  = 1 << 20 // of one kind of content
)

// seed makes every run create and change the same image.
var seed = [32]byte([]byte("rclone-blockdev demonstration..."))

// kind is what an area of the image holds.
type kind int

const (
	random kind = iota
	text
	zeros // written, so that they take space like data
	hole  // never written
)

// kinds are drawn from this list: a disk that is three quarters in use.
var kinds = []kind{random, random, random, text, text, zeros, hole, hole}

// makeImage creates the file name with n bytes and the structure of a disk that
// is in use.
func makeImage(ctx context.Context, name string, n int64) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(n); err != nil {
		return err
	}
	source := rand.NewChaCha8(seed)
	dice := rand.New(source)
	area := make([]byte, areaSize)
	for off := int64(0); off < n; off += areaSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := area[:min(areaSize, n-off)]
		// Several areas in a row are alike, as they are on a disk.
		k := kinds[rand.New(rand.NewPCG(1, uint64(off/(4*areaSize)))).IntN(len(kinds))]
		if k == hole {
			continue
		}
		fill(part, k, source, dice)
		if _, err := f.WriteAt(part, off); err != nil {
			return err
		}
	}
	return nil
}

func fill(area []byte, k kind, source io.Reader, dice *rand.Rand) {
	switch k {
	case random:
		_, _ = source.Read(area) // a generator has no end and no errors
	case text:
		var b bytes.Buffer
		for b.Len() < len(area) {
			fmt.Fprintf(&b, "line %d of a log that nobody reads: status %d\n", b.Len(), dice.IntN(600))
		}
		copy(area, b.Bytes())
	case zeros:
		clear(area)
	}
}

// changeImage overwrites about 1 % of the blocks, scattered over the image, an
// eighth of them with zeros.
func changeImage(name string, n int64) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	source := rand.NewChaCha8(seed)
	dice := rand.New(source)
	count := n / blockSize
	chosen := dice.Perm(int(count))[:max(count/100, 1)]
	block := make([]byte, blockSize)
	for i, at := range chosen {
		if i%8 == 7 {
			clear(block)
		} else {
			_, _ = source.Read(block)
		}
		if _, err := f.WriteAt(block, int64(at)*blockSize); err != nil {
			return err
		}
	}
	return nil
}

// compare reads both files, sharing no code with what is demonstrated.
func compare(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, areaSize), make([]byte, areaSize)
	for off := int64(0); ; off += areaSize {
		na, errA := io.ReadFull(fa, bufA)
		nb, errB := io.ReadFull(fb, bufB)
		if !bytes.Equal(bufA[:na], bufB[:nb]) {
			return fmt.Errorf("%s and %s differ within 1 MiB after byte %d", a, b, off)
		}
		if ended(errA) && ended(errB) {
			return nil
		}
		if errA != nil || errB != nil {
			return errors.Join(errA, errB)
		}
	}
}

func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
