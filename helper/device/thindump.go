package device

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// thinDump reads what the program thin_dump prints of one volume, an XML element on each line. It gives the ranges of the
// volume that have space, and how many bytes that are. Whatever is not as expected is an error: a range that is missed
// would be taken for zeros.
func thinDump(r io.Reader, id uint64, chunk int64) (data spans, total int64, err error) {
	d := dump{id: id, chunk: chunk}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if err := d.line(strings.TrimSpace(lines.Text())); err != nil {
			return data, 0, fmt.Errorf("%w: %.100q", err, lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		return data, 0, err
	}
	if d.state != dumpEnded {
		return data, 0, errors.New("its end is missing")
	}
	if d.count != d.mapped {
		return data, 0, fmt.Errorf("%d chunks of %d are told", d.count, d.mapped)
	}
	return d.data, d.count * chunk, nil
}

// dump is a running thinDump.
type dump struct {
	id            uint64
	chunk         int64 // bytes
	state         int
	count, mapped int64 // chunks told, and how many they should be
	data          spans
}

// The states of a dump.
const (
	dumpStart = iota
	dumpPool
	dumpDevice
	dumpDeviceEnded
	dumpEnded
)

var errDump = errors.New("unexpected")

func (d *dump) line(text string) error {
	name, rest, _ := strings.Cut(text, " ")
	a := attributes(rest)
	switch {
	case text == "":
		return nil
	case d.state == dumpStart && name == "<superblock":
		d.state = dumpPool
		if size, err := a.number("data_block_size"); err != nil || size != d.chunk/512 {
			return errDump
		}
		return nil
	case d.state == dumpPool && name == "<device":
		d.state = dumpDevice
		id, err := a.number("dev_id")
		if err != nil || uint64(id) != d.id {
			return errDump
		}
		d.mapped, err = a.number("mapped_blocks")
		return err
	case d.state == dumpDevice && name == "<range_mapping":
		return d.add(a, "origin_begin", "length")
	case d.state == dumpDevice && name == "<single_mapping":
		return d.add(a, "origin_block", "")
	case d.state == dumpDevice && text == "</device>":
		d.state = dumpDeviceEnded
		return nil
	case d.state == dumpDeviceEnded && text == "</superblock>":
		d.state = dumpEnded
		return nil
	}
	return errDump
}

// add takes in the chunks that an element names.
func (d *dump) add(a attributes, first, length string) error {
	at, err := a.number(first)
	n := int64(1)
	if err == nil && length != "" {
		n, err = a.number(length)
	}
	if limit := math.MaxInt64 / d.chunk; err != nil || at > limit || n > limit-at {
		return errDump
	}
	d.count += n
	return d.data.add(at*d.chunk, (at+n)*d.chunk)
}

// attributes are those of an element, as text.
type attributes string

// number is the value of an attribute that holds a number, not negative.
func (a attributes) number(name string) (int64, error) {
	_, value, found := strings.Cut(" "+string(a), " "+name+`="`)
	value, _, closed := strings.Cut(value, `"`)
	if !found || !closed {
		return 0, errDump
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		return 0, errDump
	}
	return n, nil
}
