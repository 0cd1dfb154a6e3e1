package helper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func rangeOf(n int64) block.Range { return block.Range{Length: n, BlockSize: block.DefaultSize} }

// stray is a frame that belongs to a transfer.
func stray() *wire.Applied { return new(wire.Applied) }

// reading has a Read run that waits for its window.
func reading(t *testing.T, c *client) {
	t.Helper()
	path := file(t, "dense", bytes.Repeat([]byte("data"), 1<<18))
	c.call(openRead(path), new(wire.Opened))
	c.send(&wire.Read{Length: 1 << 20, Window: 1, Compress: wire.CompressOff})
	if got := c.quiet(); len(got) != 1 || got[0].Type != wire.TypeData {
		t.Fatalf("%d frames", len(got))
	}
}

func TestSession_Cancel(t *testing.T) {
	t.Run("running", func(t *testing.T) {
		c := connect(t, Policy{})
		reading(t, c)
		c.fails(wire.CodeCancelled, &wire.Cancel{})
		c.usable()
		c.call(&wire.Read{Length: 100, Window: 100, Compress: wire.CompressOff}, new(wire.Data)) // it is still open
		c.hangUp()
	})
	t.Run("waiting", func(t *testing.T) {
		c := connect(t, Policy{})
		path := file(t, "sparse", nil)
		if err := os.Truncate(path, 1<<30); err != nil { // long enough for what follows
			t.Fatal(err)
		}
		c.call(openRead(path), new(wire.Opened))
		dir := t.TempDir() + "/never"
		mkdir := new(wire.Mkdir)
		mkdir.Path = dir
		c.send(&wire.Hash{}, mkdir, &wire.Cancel{})
		if _, err := c.end(); err != nil {
			t.Errorf("the request that ran: %v", err)
		}
		if _, err := c.end(); !errors.Is(err, wire.CodeCancelled) {
			t.Errorf("the request that waited: %v", err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Error("the request that waited was served")
		}
		c.usable()
	})
	t.Run("none", func(t *testing.T) {
		c := connect(t, Policy{})
		c.send(&wire.Cancel{}, &wire.Cancel{})
		c.usable()
		c.send(&wire.Cancel{})
		if got := c.quiet(); len(got) != 0 {
			t.Errorf("answered with %#x", got[0].Type)
		}
		c.usable()
	})
	for name, start := range map[string]func(c *client, path string){
		"receiving": func(c *client, path string) {
			c.call(openWrite(path, 3<<20), new(wire.Opened))
			c.send(wire.NewReceive(rangeOf(3<<20), 2))
			c.quiet()
		},
		"sending": func(c *client, path string) {
			c.call(openRead(path), new(wire.Opened))
			c.send(wire.NewSend(rangeOf(3<<20), 2))
		},
		"hashing": func(c *client, path string) {
			if err := os.Truncate(path, 1<<40); err != nil {
				c.t.Fatal(err)
			}
			c.call(openRead(path), new(wire.Opened))
			c.send(&wire.Hash{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, Policy{})
			start(c, file(t, "image", bytes.Repeat([]byte("x"), 3<<20)))
			c.send(&wire.Cancel{})
			if _, err := c.end(); !errors.Is(err, wire.CodeCancelled) {
				t.Errorf("got %v", err)
			}
			c.usable()
			c.call(&wire.Close{}, nil)
			c.hangUp()
		})
	}
}

// What was on its way when a request ended belongs to nobody, however much it is.
func TestSession_LateFrames(t *testing.T) {
	c := connect(t, Policy{})
	c.usable()
	for range 10 * inboxSize {
		c.send(stray(), &wire.Window{Bytes: 1})
	}
	c.usable()
	c.hangUp()
}

// A request that takes its frames slowly holds few megabytes of them, and ends although more are on their way.
func TestSession_LargeFrames(t *testing.T) {
	s := &session{}
	s.pending.Store(1)
	r := s.newRequest(t.Context(), wire.Frame{})
	frame := wire.Frame{Type: wire.TypePatch, Payload: make([]byte, wire.MaxControl+1)}
	var came atomic.Int32
	delivering := make(chan struct{})
	go func() {
		defer close(delivering)
		for range 2 * inboxSize {
			if !s.deliver(r, frame) {
				t.Error("a frame of the request that runs was refused")
			}
			came.Add(1)
		}
	}()
	wait := func(want int32) {
		t.Helper()
		for end := time.Now().Add(patience); came.Load() < want && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond) // for more than should come
		if got := came.Load(); got != want {
			t.Fatalf("%d frames were taken, want %d", got, want)
		}
	}
	wait(mostLarge)
	for i := range int32(inboxSize) {
		if _, err := r.Next(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if i%8 == 0 {
			wait(mostLarge + i + 1)
		}
	}
	r.cancel(nil)
	<-delivering
	s.pending.Store(2)
	waiting := s.newRequest(t.Context(), wire.Frame{})
	for i := range mostLarge + 1 {
		if room := s.deliver(waiting, frame); room != (i < mostLarge) {
			t.Errorf("large frame %d for a request that waits: %v", i, room)
		}
	}
}

func TestSession_Pipelined(t *testing.T) {
	c := connect(t, Policy{})
	path := file(t, "image", []byte("hello"))
	c.send(openRead(path), &wire.Read{Length: 5, Window: 5, Compress: wire.CompressOff}, &wire.Hash{}, &wire.Close{}, stat("/none"))
	var got []string
	for i := range 5 {
		all, err := c.end()
		if i == 0 {
			c.send(stat("/")) // as many may wait again
		}
		if len(all) > 0 {
			got = append(got, string("ODS"[strings.IndexByte("\x22\x30\x23", byte(all[0].Type))]))
		} else if err != nil {
			got = append(got, "!")
		} else {
			got = append(got, "-")
		}
	}
	if s := strings.Join(got, ""); s != "ODS-!" {
		t.Errorf("replies %s", s)
	}
	if _, err := c.end(); err != nil {
		t.Error(err)
	}
	c.hangUp()
}

// A client that sends too far ahead must not keep the helper from seeing that it leaves.
func TestSession_TooFarAhead(t *testing.T) {
	for name, ahead := range map[string]func(c *client){
		"requests": func(c *client) {
			for range maxAhead + 1 {
				c.send(stat("/"))
			}
		},
		"frames": func(c *client) {
			c.send(wire.NewReceive(rangeOf(1<<20), 8))
			for range inboxSize + 1 {
				c.send(stray())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, Policy{})
			path := file(t, "image", bytes.Repeat([]byte("x"), 1<<20))
			c.call(openWrite(path, 1<<20), new(wire.Opened))
			c.send(wire.NewReceive(rangeOf(1<<20), 8))
			c.quiet()
			ahead(c)
			if err := c.ended(); !errors.Is(err, wire.CodeProtocol) {
				t.Errorf("Serve returned %v", err)
			}
			if _, err := c.end(); !errors.Is(err, wire.CodeProtocol) || !strings.Contains(err.Error(), "ahead") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSession_UnknownFrames(t *testing.T) {
	const optional, mandatory = "\x85\x00\x00\x00\x00\x00\x00\x03abc", "\x7e\x00\x00\x00\x00\x00\x00\x00"
	c := connect(t, Policy{})
	c.bytes(optional)
	c.usable()
	reading(t, c)
	c.bytes(optional)
	c.send(&wire.Window{Bytes: 1 << 20})
	if _, err := c.end(); err != nil {
		t.Error(err)
	}
	c.bytes(mandatory)
	_, err := c.end()
	if !errors.Is(err, wire.CodeProtocol) || !strings.Contains(err.Error(), "0x7e") {
		t.Errorf("got %v", err)
	}
	if err := c.ended(); !errors.Is(err, wire.CodeProtocol) {
		t.Errorf("Serve returned %v", err)
	}
}

// A frame of a transfer that makes no sense ends the request, not the session.
func TestSession_WrongFrames(t *testing.T) {
	path := file(t, "image", bytes.Repeat([]byte("x"), 1<<20))
	for name, c := range map[string]struct{ open, req, frame wire.Message }{
		"read":    {openRead(path), &wire.Read{Length: 1 << 20, Window: 1, Compress: wire.CompressOff}, stray()},
		"send":    {openRead(path), wire.NewSend(rangeOf(1<<20), 8), stray()},
		"receive": {openWrite(path, 1<<20), wire.NewReceive(rangeOf(1<<20), 8), new(wire.Want)},
		"floor":   {openWrite(path, 1<<20), wire.NewReceive(rangeOf(1<<20), 8), &wire.Advance{Floor: 9, Limit: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			p := connect(t, Policy{})
			p.call(c.open, new(wire.Opened))
			p.send(c.req)
			if name == "receive" {
				p.send(new(wire.Want)) // one of the two is too many
			}
			p.send(c.frame)
			if _, err := p.end(); !errors.Is(err, wire.CodeProtocol) {
				t.Errorf("got %v", err)
			}
			p.usable()
			p.hangUp()
		})
	}
}

// A request of another release, with more or fewer fields, is refused with both builds, and the session stays usable.
func TestSession_OtherFields(t *testing.T) {
	c := connect(t, Policy{})
	undo := &wire.Undo{Dir: t.TempDir()}
	undo.Path = file(t, "img", []byte("x"))
	payload := string(wire.Marshal(nil, undo))
	for _, other := range []string{payload + "\x00", payload[:len(payload)-1]} {
		if err := c.w.Forward(wire.Frame{Type: wire.TypeUndo, Payload: []byte(other)}); err != nil {
			t.Fatal(err)
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.end(); !errors.Is(err, wire.CodeProtocol) || !strings.Contains(err.Error(), "this helper "+Version()) {
			t.Errorf("%v", err)
		}
		c.usable()
	}
}

// Clients rely on the limits of the specification.
func TestSession_Limits(t *testing.T) {
	text, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("A helper takes at most %d requests behind the one that runs, and at most %d frames for a request that is not yet its turn, %d of them with more than MaxControl bytes.",
		maxAhead, inboxSize, mostLarge)
	if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), want) {
		t.Errorf("docs/protocol.md does not say: %s", want)
	}
}
