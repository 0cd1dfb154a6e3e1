package host

import (
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// witness notes which frames a played helper is told.
type witness struct {
	mu   sync.Mutex
	seen []wire.Type // hold mu
}

func (v *witness) note(t wire.Type) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen = append(v.seen, t)
}

func (v *witness) saw(t wire.Type) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Contains(v.seen, t)
}

// says plays a helper that answers the first request with those frames, and ends what is cancelled after that.
func (v *witness) says(frames ...wire.Message) func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
	return func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
		for first := true; ; first = false {
			f, err := r.Next()
			if err != nil {
				return
			}
			f.Release()
			v.note(f.Type)
			if f.Type == wire.TypeCancel {
				_ = w.Write(wire.Errorf(wire.CodeCancelled, "cancelled"))
			}
			for _, m := range frames {
				if first && w.Write(m) != nil {
					return
				}
			}
		}
	}
}

// quickly fails when fn takes seconds.
func quickly(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

// quickJoin joins two sessions and fails when that hangs.
func quickJoin(t *testing.T, src, dst *Session) (err error) {
	t.Helper()
	quickly(t, "join", func() { _, err = Join(t.Context(), src, dst, rangeOf(8<<20), func(int64) {}) })
	return err
}

func removeRequest() wire.Message {
	m := new(wire.Remove)
	m.Path = "/precious"
	return m
}

func setTimeRequest() wire.Message {
	m := new(wire.SetTime)
	m.Path = "/precious"
	return m
}

func digestsOf(n int) *wire.Digests {
	m := new(wire.Digests)
	for range n {
		m.Add(block.Digest{})
	}
	return m
}

// A helper of one host gives no orders to that of another: only frames of a transfer pass.
func TestJoin_PassesNoRequests(t *testing.T) {
	harness.Goroutines(t)
	whole := &wire.Summary{Scanned: 8 << 20, Equal: 8 << 20}
	for _, c := range []struct {
		name, from string
		says       []wire.Message // the last one must not pass
	}{
		{"remove", "source", []wire.Message{&wire.Finish{}, removeRequest()}},
		{"open", "source", []wire.Message{&wire.Finish{}, writeRequest("/precious", 1)}},
		{"close", "source", []wire.Message{&wire.Finish{}, &wire.Close{Commit: true}}},
		{"applied", "source", []wire.Message{&wire.Applied{}}},
		{"gaps", "source", []wire.Message{&wire.Gaps{List: []wire.Gap{{Offset: 0, Length: 512}}}}},
		{"gaps", "target", []wire.Message{&wire.Gaps{List: []wire.Gap{{Offset: 0, Length: 512}}}}},
		{"remove after the summary", "source", []wire.Message{&wire.Finish{}, whole, removeRequest()}},
		{"finish after the summary", "source", []wire.Message{whole, &wire.Finish{}}},
		{"remove", "target", []wire.Message{digestsOf(8), removeRequest()}},
		{"set time", "target", []wire.Message{digestsOf(8), setTimeRequest()}},
		{"hash", "target", []wire.Message{&wire.Hash{}}},
		{"finish", "target", []wire.Message{&wire.Finish{}}},
		{"remove after the summary", "target", []wire.Message{whole, removeRequest()}},
	} {
		t.Run(c.from+" says "+c.name, func(t *testing.T) {
			var liar, victim witness
			a, b := played(t, liar.says(c.says...)), played(t, victim.says())
			src, dst, bad := a, b, c.says[len(c.says)-1].Type()
			if c.from == "target" {
				src, dst = b, a
			}
			if err := quickJoin(t, src, dst); err == nil || !strings.Contains(err.Error(), "protocol error") {
				t.Errorf("got %v", err)
			}
			if victim.saw(bad) {
				t.Errorf("the other end was told a frame of type %#02x", uint8(bad))
			}
		})
	}
}

// Success is what both ends say alike, and nothing less.
func TestJoin_Success(t *testing.T) {
	harness.Goroutines(t)
	whole := wire.Summary{Root: block.Digest{1}, Scanned: 5 << 20, Holes: 3 << 20, Equal: 1 << 20, Data: 6 << 20, Zeroed: 1 << 20}
	but := func(change func(m *wire.Summary)) []wire.Message {
		m := whole
		change(&m)
		return []wire.Message{&m, &wire.Done{}}
	}
	honest := but(func(*wire.Summary) {})
	source := func(says []wire.Message) *Session { // which tells that it is through before it sums up
		return played(t, new(witness).says(append([]wire.Message{&wire.Finish{}}, says...)...))
	}
	if err := quickJoin(t, source(honest), played(t, new(witness).says(honest...))); err != nil {
		t.Errorf("two honest ends: %v", err)
	}
	for name, lie := range map[string][]wire.Message{
		"done at once":      {&wire.Done{}},
		"two summaries":     {&whole, &whole, &wire.Done{}},
		"another root":      but(func(m *wire.Summary) { m.Root[31] = 1 }),
		"scanned too few":   but(func(m *wire.Summary) { m.Scanned-- }),
		"scanned too many":  but(func(m *wire.Summary) { m.Holes++ }),
		"nothing settled":   but(func(m *wire.Summary) { m.Equal, m.Data, m.Zeroed = 0, 0, 0 }),
		"settled too few":   but(func(m *wire.Summary) { m.Equal-- }),
		"settled too many":  but(func(m *wire.Summary) { m.Zeroed++ }),
		"all but one block": but(func(m *wire.Summary) { m.Scanned, m.Data = m.Scanned-4096, m.Data-4096 }),
	} {
		for _, c := range []struct {
			who      string
			src, dst []wire.Message
		}{{"source", lie, honest}, {"target", honest, lie}, {"both", lie, lie}} {
			if name == "another root" && c.who == "both" {
				continue // that is a root they agree on
			}
			t.Run(name+"/"+c.who, func(t *testing.T) {
				if err := quickJoin(t, source(c.src), played(t, new(witness).says(c.dst...))); err == nil {
					t.Error("success")
				}
			})
		}
	}
}

// An end that has done before the other one could does not leave that one waiting.
func TestJoin_DoneEarly(t *testing.T) {
	harness.Goroutines(t)
	early := []wire.Message{&wire.Done{}}
	t.Run("source/with a summary", func(t *testing.T) {
		dst := openTarget(t, imageFile(t, make([]byte, 8<<20)), 8<<20)
		whole := &wire.Summary{Scanned: 8 << 20, Equal: 8 << 20}
		if err := quickJoin(t, played(t, new(witness).says(whole, &wire.Done{})), dst); err == nil {
			t.Error("success")
		}
		usable(t, dst)
	})
	for name, real := range map[string]bool{"real": true, "played": false} {
		t.Run("source/"+name, func(t *testing.T) {
			dst := played(t, new(witness).says())
			if real {
				dst = openTarget(t, imageFile(t, make([]byte, 8<<20)), 8<<20)
			}
			if err := quickJoin(t, played(t, new(witness).says(early...)), dst); err == nil {
				t.Error("success")
			}
			if real {
				usable(t, dst)
			}
		})
		t.Run("target/"+name, func(t *testing.T) {
			src := played(t, new(witness).says())
			if real {
				src = opened(t, make([]byte, 8<<20))
			}
			if err := quickJoin(t, src, played(t, new(witness).says(early...))); err == nil {
				t.Error("success")
			}
			if real {
				usable(t, src)
			}
		})
	}
}

// Names that lead out of the directory are no entries of it.
func TestSession_List_names(t *testing.T) {
	harness.Goroutines(t)
	var m wire.Entries
	for _, name := range []string{"", "disk.img", ".", "..", "a/b", "../../etc", "/etc", "a/", "...", "..img"} {
		m.Entries = append(m.Entries, wire.Entry{Name: name, Kind: wire.KindFile})
	}
	s := played(t, new(witness).says(&m, &wire.Done{}))
	entries, err := s.List(t.Context(), "/images")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name)
	}
	if want := []string{"disk.img", "...", "..img"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("got %q, %v; want %q", names, err, want)
	}
}
