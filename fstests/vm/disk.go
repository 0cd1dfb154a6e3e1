//go:build linux

package vm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
)

// Disk is a disk of a Machine with a cache that forgets: what the machine has written and not flushed is lost when
// the power is cut. The file behind it has what is durable, and nothing else. The emulator reaches it by NBD.
type Disk struct {
	Serial string

	file *os.File
	size int64

	mu       sync.Mutex
	volatile map[int64][]byte // blocks that were written and not flushed, by their number; hold mu
	off      bool             // no power: nothing is stored; hold mu
	counts   Counts           // hold mu
	read     []int64          // bytes of each unit; hold mu
}

// Counts is what a disk was asked for, in bytes but for flushes.
type Counts struct {
	Written  int64 // taken into the cache
	Volatile int64 // in the cache now
	Lost     int64 // were in the cache when the power was cut, and not stored
	Flushes  int64
}

const (
	diskBlock = 4096
	readUnit  = 1 << 20 // in which reads are counted
)

// OpenDisk makes a disk of a file.
func OpenDisk(path, serial string) (*Disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size()%diskBlock != 0 {
		err = fmt.Errorf("%s: a disk has whole blocks", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Disk{Serial: serial, file: f, size: st.Size(), volatile: map[int64][]byte{}, read: make([]int64, st.Size()/readUnit+1)}, nil
}

// Close lets go of the file. The machine must be off.
func (d *Disk) Close() error { return d.file.Close() }

// Counts is what was done so far.
func (d *Disk) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counts
	c.Volatile = int64(len(d.volatile)) * diskBlock
	return c
}

// Read is how many bytes were read so far of what lies before end.
func (d *Disk) Read(end int64) (n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, of := range d.read[:end/readUnit] {
		n += of
	}
	return n
}

// cut takes the power away. Each block of the cache is stored with that probability: disks write in any order.
func (d *Disk) cut(random *rand.Rand, stored float64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	for at, block := range d.volatile {
		if random.Float64() >= stored {
			d.counts.Lost += diskBlock
			delete(d.volatile, at)
			continue
		}
		if err := d.store(at, block); err != nil {
			return err
		}
	}
	return nil
}

func (d *Disk) power() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = false
}

// flush stores the cache. Hold mu.
func (d *Disk) flush() error {
	d.counts.Flushes++
	for at, block := range d.volatile {
		if err := d.store(at, block); err != nil {
			return err
		}
	}
	return nil
}

// store moves a block out of the cache. Hold mu.
func (d *Disk) store(at int64, block []byte) error {
	_, err := d.file.WriteAt(block, at*diskBlock)
	delete(d.volatile, at)
	return err
}

// block is a block as the machine sees it; it may be changed when it becomes part of the cache. Hold mu.
func (d *Disk) block(at int64) ([]byte, error) {
	if block, ok := d.volatile[at]; ok {
		return block, nil
	}
	block := make([]byte, diskBlock)
	_, err := d.file.ReadAt(block, at*diskBlock)
	return block, err
}

// each calls do for the parts of p, which lies at off, and the blocks that they are in, as a whole and from the same place
// on. Hold mu.
func (d *Disk) each(p []byte, off int64, do func(at int64, block, from, part []byte)) error {
	for len(p) > 0 {
		block, err := d.block(off / diskBlock)
		if err != nil {
			return err
		}
		part := p[:min(int64(len(p)), diskBlock-off%diskBlock)]
		do(off/diskBlock, block, block[off%diskBlock:], part)
		p, off = p[len(part):], off+int64(len(part))
	}
	return nil
}

func (d *Disk) readAt(p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.read[off/readUnit] += int64(len(p))
	return d.each(p, off, func(_ int64, _, from, part []byte) { copy(part, from) })
}

func (d *Disk) writeAt(p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil
	}
	d.counts.Written += int64(len(p))
	return d.each(p, off, func(at int64, block, from, part []byte) {
		copy(from, part)
		d.volatile[at] = block
	})
}

func (d *Disk) sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil
	}
	return d.flush()
}

// The constants of NBD that are needed here; see doc/proto.md of NetworkBlockDevice/nbd.
const (
	nbdMagic       = 0x4e42444d41474943 // "NBDMAGIC"
	nbdOption      = 0x49484156454f5054 // "IHAVEOPT"
	nbdReply       = 0x0003e889045565a9
	nbdRequest     = 0x25609513
	nbdAnswer      = 0x67446698
	nbdFixed       = 1 // handshake flag
	nbdExport      = 1 | 4 | 8
	nbdAck         = 1
	nbdInfo        = 3
	nbdUnsupported = 1<<31 | 1
	nbdGo          = 7
	nbdEIO         = 5
	nbdMost        = 32 << 20 // bytes of one request
)

// The commands, and the flag of one that is to be durable at once.
const (
	nbdRead, nbdWrite, nbdEnd, nbdFlush = 0, 1, 2, 3
	nbdFUA                              = 1
)

// serve answers one emulator until it goes.
func (d *Disk) serve(conn net.Conn) error {
	defer conn.Close()
	rw := bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
	if err := d.negotiate(rw); err != nil {
		return err
	}
	for {
		var r struct {
			Magic       uint32
			Flags, Type uint16
			Handle, Off uint64
			Length      uint32
		}
		if err := binary.Read(rw, binary.BigEndian, &r); err != nil || r.Type == nbdEnd {
			return err
		}
		if r.Magic != nbdRequest || r.Length > nbdMost || r.Off > uint64(d.size) || r.Off+uint64(r.Length) > uint64(d.size) {
			return fmt.Errorf("nbd: a request of %+v to a disk of %d bytes", r, d.size)
		}
		data := make([]byte, r.Length)
		var err error
		switch r.Type {
		case nbdRead:
			err = d.readAt(data, int64(r.Off))
		case nbdWrite:
			if _, err := io.ReadFull(rw, data); err != nil {
				return err
			}
			err = d.writeAt(data, int64(r.Off))
		case nbdFlush:
			err = d.sync()
		default:
			return fmt.Errorf("nbd: request %d", r.Type)
		}
		if err == nil && r.Flags&nbdFUA != 0 {
			err = d.sync()
		}
		code := uint32(0)
		if err != nil {
			code = nbdEIO
		}
		_ = binary.Write(rw, binary.BigEndian, struct {
			Magic, Code uint32
			Handle      uint64
		}{nbdAnswer, code, r.Handle})
		if r.Type == nbdRead && err == nil {
			_, _ = rw.Write(data)
		}
		if err := rw.Flush(); err != nil { // has what the two before met
			return err
		}
	}
}

// negotiate agrees on what the disk is.
func (d *Disk) negotiate(rw *bufio.ReadWriter) error {
	_ = binary.Write(rw, binary.BigEndian, struct {
		Magic, Option uint64
		Flags         uint16
	}{nbdMagic, nbdOption, nbdFixed})
	if err := rw.Flush(); err != nil {
		return err
	}
	if _, err := rw.Discard(4); err != nil { // the client's flags
		return err
	}
	for {
		var o struct {
			Magic          uint64
			Option, Length uint32
		}
		if err := binary.Read(rw, binary.BigEndian, &o); err != nil {
			return err
		}
		if o.Magic != nbdOption || o.Length > diskBlock {
			return errors.New("nbd: no option")
		}
		if _, err := rw.Discard(int(o.Length)); err != nil {
			return err
		}
		answer := func(kind uint32, data []byte) {
			_ = binary.Write(rw, binary.BigEndian, struct {
				Magic                uint64
				Option, Kind, Length uint32
			}{nbdReply, o.Option, kind, uint32(len(data))})
			_, _ = rw.Write(data)
		}
		if o.Option == nbdGo {
			answer(nbdInfo, binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(make([]byte, 2), uint64(d.size)), nbdExport))
			answer(nbdAck, nil)
			return rw.Flush()
		}
		answer(nbdUnsupported, nil)
		if err := rw.Flush(); err != nil {
			return err
		}
	}
}
