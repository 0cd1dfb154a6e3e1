package helper

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// script is the input of a fuzz target as a source of decisions. It gives zeros at its end.
type script struct{ b []byte }

func (s *script) n(n int) int {
	if len(s.b) == 0 {
		return 0
	}
	v := int(s.b[0]) % n
	s.b = s.b[1:]
	return v
}

// number is one that matters: of extents, or of bytes where scale says so.
func (s *script) number(scale int64) int64 {
	odd := []int64{0, 1, 2, 3, 4, 255, 256, 1 << 20, 1<<62 - 1, 1<<63 - 1}
	return min(odd[s.n(len(odd))], (1<<63-1)/scale) * scale
}

const (
	fuzzedSize = 2<<20 + 4096 + 100 // bytes of the image: two extents and a short one
	fuzzedRoom = 64 << 20           // bytes that a helper may keep: window, data in work, and frames that wait
)

// scene is the folder of the images: inside is allowed, and what is beside it must stay as it is.
type scene struct {
	dir      string
	image    []byte
	allowed  []block.Range // that Receive was asked for with the image open
	harmless bool          // nothing was asked for that may change the image elsewhere
}

func (s *scene) path(name string) string { return filepath.Join(s.dir, "inside", name) }

var layTime = time.Unix(1e9, 0)

// lay makes the folder as it is at first.
func (s *scene) lay() error {
	for _, dir := range []string{"inside/sub", "outside"} {
		if err := os.MkdirAll(filepath.Join(s.dir, dir), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "outside/precious"), []byte("precious"), 0o600); err != nil {
		return err
	}
	if err := os.Chtimes(filepath.Join(s.dir, "outside/precious"), layTime, layTime); err != nil {
		return err
	}
	s.allowed, s.harmless = nil, true
	return os.WriteFile(s.path("image"), s.image, 0o600)
}

// message is the next one that the client says. Most are such as a client might say, with wrong numbers here and there.
func (s *scene) message(in *script) wire.Message {
	paths := []string{s.path("image"), s.path("image"), s.path("new"), s.path("sub"), s.path("sub/deep/er"), s.path(""),
		filepath.Join(s.dir, "outside/precious"), s.path("../outside/new"), s.dir, "/", s.path("link/precious"), "image"}
	named := paths[in.n(len(paths))]
	r := block.Range{Offset: int64(in.n(3)) * 512, BlockSize: 4096}
	r.Length = []int64{fuzzedSize - r.Offset, fuzzedSize - r.Offset, 1 << 20, 0, fuzzedSize, 1 << 40, 1<<63 - 1 - r.Offset}[in.n(7)]
	switch kind := in.n(24); kind {
	case 0, 1, 2:
		m := openWrite(named, []int64{fuzzedSize, fuzzedSize, fuzzedSize, 0, 1 << 20, 8 << 20}[in.n(6)])
		m.Lead, m.Force, m.IgnoreSize = in.n(8) != 7, in.n(8) == 7, in.n(8) == 7
		m.Claim[0] = byte(1 + in.n(2))
		s.harmless = s.harmless && m.Size == fuzzedSize // else the image may get longer
		return m
	case 3:
		return openRead(named)
	case 4:
		commit := in.n(2) == 1
		s.harmless = s.harmless && !commit
		return &wire.Close{Commit: commit}
	case 5:
		return &wire.Read{Offset: r.Offset, Length: r.Length, Window: 1 + s.odd(in), Compress: wire.Compression(in.n(4))}
	case 6:
		return &wire.Hash{}
	case 7, 8:
		m := wire.NewSend(r, int64(1+in.n(wire.MaxWindow)))
		m.Compare = in.n(8) == 7
		return m
	case 9, 10, 11:
		m := wire.NewReceive(r, int64(1+in.n(wire.MaxWindow)))
		m.Compare = in.n(8) == 7
		if r.Length <= fuzzedSize {
			s.allowed = append(s.allowed, r)
		}
		return m
	case 12:
		return &wire.Root{Offset: r.Offset, Length: r.Length, BlockSize: 4096}
	case 13:
		return &wire.Ping{Bytes: int64(in.n(256)) << 10}
	case 14:
		return &wire.Cancel{}
	case 15:
		return &wire.Window{Bytes: s.odd(in)}
	case 16:
		return s.file(in, named)
	}
	return transferFrame(in, s.image)
}

func (s *scene) odd(in *script) int64 { return in.number(1<<in.n(2)) >> 1 }

// file is a request about a path.
func (s *scene) file(in *script, path string) wire.Message {
	switch in.n(8) {
	case 0:
		return stat(path)
	case 1:
		m := new(wire.List)
		m.Path = path
		return m
	case 2:
		m := new(wire.Mkdir)
		m.Path = path
		return m
	case 3:
		m := new(wire.Rmdir)
		m.Path = path
		return m
	case 4:
		m := new(wire.Remove)
		m.Path = path
		s.harmless = false
		return m
	case 5:
		m := new(wire.SetTime)
		m.Path, m.ModTime = path, in.number(1)
		return m
	case 6:
		m := new(wire.StatFS)
		m.Path = path
		return m
	}
	m := &wire.Describe{Look: in.n(2) == 1}
	m.Path = path
	return m
}

// transferFrame is one of either end of a transfer, right or wrong.
func transferFrame(in *script, image []byte) wire.Message {
	i := int64(in.n(4))
	if in.n(8) == 7 {
		i = in.number(1)
	}
	switch in.n(9) {
	case 0:
		return &wire.Advance{Settled: min(i, int64(in.n(4))), Floor: i, Limit: i + int64(in.n(5))}
	case 1:
		m := new(wire.Want)
		m.Extent = i
		return m
	case 2:
		return fuzzedPatch(in, i, image)
	case 3:
		return &wire.Finish{Root: block.Sum(image[:in.n(2)])}
	case 4:
		m := &wire.Digests{First: i}
		for range 1 + in.n(3) {
			m.Add([]block.Digest{{}, block.ZeroExtent(block.ExtentSize, 4096)}[in.n(2)])
		}
		return m
	case 5:
		return &wire.Blocks{Extent: i, Sums: make([]byte, block.ShortSize*[]int{256, 2, 1, 2048}[in.n(4)])}
	case 6:
		m := new(wire.Applied)
		m.Extent = i
		return m
	case 7:
		m := new(wire.Resend)
		m.Extent = i
		return m
	}
	return &wire.Finished{}
}

// fuzzedPatch is a patch of an extent of the image, with the digest that it leads to in most cases.
func fuzzedPatch(in *script, i int64, image []byte) *wire.Patch {
	p := &wire.Patch{Extent: i}
	r := block.Range{Length: int64(len(image)), BlockSize: 4096}
	if i >= r.Extents() {
		return p
	}
	off, n := r.Extent(i)
	extent := bytes.Clone(image[off:][:n])
	run := wire.Run{Zero: in.n(2) == 1, First: uint16(in.n(256)), Count: uint16(1 + in.n(4))}
	from := min(int(run.First)*4096, n)
	to := min(from+int(run.Count)*4096, n)
	if run.Zero {
		clear(extent[from:to])
	} else {
		p.Data = bytes.Repeat([]byte{byte(in.n(256))}, to-from)
		copy(extent[from:to], p.Data)
	}
	p.Runs = append(p.Runs, run)
	if in.n(4) != 3 {
		p.Digest = block.ExtentDigest(block.Digests(make([]block.Digest, block.Count(n, 4096)), extent, 4096))
	}
	return p
}

// talk says what the script has to a helper, until it ends or the script does. It must be called in a bubble: a helper
// that does not end when its client has gone is a deadlock there.
func (s *scene) talk(in *script, p Policy) (peak uint64, err error) {
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- Serve(context.Background(), far, p) }()
	taken := make(chan struct{})
	go func() { // the client takes all that comes
		defer close(taken)
		buf := make([]byte, 64<<10)
		for {
			if _, err := near.Read(buf); err != nil {
				return
			}
		}
	}()
	w := wire.NewWriter(near)
	hello := Hello()
	hello.Features = 0 // it does not say that it is there
	err = w.WriteMagic()
	if err == nil {
		err = w.Write(hello)
	}
	for err == nil && len(in.b) > 0 {
		switch in.n(32) {
		case 31: // bytes of no meaning
			n := min(in.n(80), len(in.b))
			_, err = near.Write(in.b[:n])
			in.b = in.b[n:]
		case 30: // a frame of any type
			f := wire.Frame{Type: wire.Type(in.n(256))}
			n := min(in.n(80), len(in.b))
			f.Payload, in.b = in.b[:n], in.b[n:]
			if ping := new(wire.Ping); f.Decode(ping) == nil && ping.Bytes > 1<<20 {
				break // all that it asks for is sent, which may take longer than an input may
			}
			if err = w.Forward(f); err == nil {
				err = w.Flush()
			}
		default:
			m := s.message(in)
			if m.Validate() == nil {
				err = w.Write(m)
			}
		}
		if in.n(2) == 0 {
			synctest.Wait()
			peak = max(peak, inUse())
		}
	}
	near.Close()
	<-taken
	return peak, <-served
}

// inUse is how many bytes of the heap are not free.
func inUse() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// check tells what happened that must not.
func (s *scene) check(readOnly bool) error {
	outside, err := os.ReadDir(filepath.Join(s.dir, "outside"))
	if err != nil || len(outside) != 1 {
		return fmt.Errorf("beside what is allowed there is now %v, %v", outside, err)
	}
	if b, err := os.ReadFile(filepath.Join(s.dir, "outside/precious")); err != nil || string(b) != "precious" {
		return fmt.Errorf("what is not allowed was written: %q, %v", b, err)
	}
	if info, err := outside[0].Info(); err != nil || !info.ModTime().Equal(layTime) {
		return fmt.Errorf("what is not allowed has another time: %v", err)
	}
	if !s.harmless && !readOnly {
		return nil
	}
	now, err := os.ReadFile(s.path("image"))
	if err != nil || len(now) != len(s.image) {
		return fmt.Errorf("the image has %d bytes, %v", len(now), err)
	}
	for i := range now {
		inRange := func(r block.Range) bool { return r.Offset <= int64(i) && int64(i) < r.Offset+r.Length }
		if now[i] != s.image[i] && (readOnly || !slices.ContainsFunc(s.allowed, inRange)) {
			return fmt.Errorf("byte %d was written, which is in no range", i)
		}
	}
	return nil
}

// FuzzSession plays whole sessions of a hostile client to a helper. Whatever the client says, the helper ends when the
// client does, keeps to its policy, writes within the ranges that were asked for, and keeps a bounded number of bytes.
func FuzzSession(f *testing.F) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		b := make([]byte, 20+rnd.IntN(200))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		f.Add(b)
	}
	const (
		step    = "\x00\x00\x00\x00" // a message, about the image, from its start, all of it
		write   = step + "\x00" + "\x00\x00\x00\x00\x00" + "\x00"
		read    = step + "\x03" + "\x00"
		receive = step + "\x09\x20\x00" + "\x00"
		send    = step + "\x07\x20\x00" + "\x00"
		frame   = step + "\x11"
		want    = frame + "\x00\x00\x01" + "\x00"
		patch   = frame + "\x01\x00\x02\x00\x05\x02\x09\x00" + "\x00"
		advance = frame + "\x03\x00\x00\x03\x00" + "\x00"
		finish  = frame + "\x00\x00\x03\x00" + "\x00"
		digests = frame + "\x00\x00\x04\x02\x00\x01\x00" + "\x00"
		commit  = step + "\x04\x01" + "\x00"
		remove  = step + "\x10\x04" + "\x00"
		newDir  = step + "\x10\x02"
	)
	for _, seed := range []string{
		write + receive + want + patch + advance + finish + commit, write + receive + patch, read + send + digests + commit,
		read + step + "\x06\x00" + commit + remove, remove + write + commit, remove + newDir,
	} {
		f.Add([]byte("\x00" + seed)) // with a policy that lets it write
		f.Add([]byte("\x03" + seed))
	}
	dir := f.TempDir()
	s := &scene{dir: dir, image: harness.RecordedContent(fuzzedSize, 7)}
	clear(s.image[1<<20 : 1<<20+40960])
	if err := s.lay(); err != nil {
		f.Fatal(err)
	}
	if err := os.Symlink("../outside", s.path("link")); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := s.lay(); err != nil {
			t.Fatal(err)
		}
		in := &script{b}
		policy := Policy{Allow: []string{s.path("")}, ReadOnly: in.n(4) == 3}
		before := inUse()
		synctest.Test(t, func(t *testing.T) {
			peak, _ := s.talk(in, policy)
			if peak > before+fuzzedRoom {
				t.Errorf("%d bytes more than before", peak-before)
			}
		})
		if err := s.check(policy.ReadOnly); err != nil {
			t.Error(err)
		}
		s.sweep(t)
	})
}

// sweep removes what a session has made, which may be a directory in the place of the image.
func (s *scene) sweep(t *testing.T) {
	t.Helper()
	all, err := os.ReadDir(s.path(""))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Name() != "link" {
			if err := os.RemoveAll(s.path(e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
}
