package helper

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func TestHello(t *testing.T) {
	h := Hello()
	if err := h.Validate(); err != nil {
		t.Error(err)
	}
	if h.Version != wire.Version || h.OS != runtime.GOOS || h.Arch != runtime.GOARCH || h.Build == "" {
		t.Errorf("%+v", h)
	}
	if runtime.GOOS == "linux" && len(h.BootID) != 36 {
		t.Errorf("boot id %q", h.BootID)
	}
}

// A client behind a login shell or a menu may be preceded by other text.
func TestServe_Banner(t *testing.T) {
	c := raw(t, Policy{})
	c.listen()
	c.bytes("Last login: never\r\n\x00\xffblk ")
	if err := c.w.WriteMagic(); err != nil {
		t.Fatal(err)
	}
	c.send(Hello())
	c.usable()
	c.hangUp()
}

func TestServe_NoClient(t *testing.T) {
	for _, c := range []struct {
		name, says string
		fails      error
	}{
		{"silence", "", nil},
		{"text", "GET / HTTP/1.1\r\n\r\n", nil},
		{"half a magic", wire.Magic[:4], nil},
		{"magic alone", wire.Magic, nil},
		{"half a frame", wire.Magic + "\x01\x00\x00", io.ErrUnexpectedEOF},
		{"long text", strings.Repeat("no client\n", wire.MaxPreamble/10+2), wire.ErrTooLong},
		{"request before hello", wire.Magic + "\x02\x00\x00\x00\x00\x00\x00\x00", errAny},
		{"hello too short", wire.Magic + "\x01\x00\x00\x00\x00\x00\x00\x00", wire.ErrShort},
		{"hello too long", wire.Magic + "\x01\x00\x00\x00\x7f\x00\x00\x00", wire.ErrTooLong},
		{"reserved bits", wire.Magic + "\x01\x01\x00\x00\x00\x00\x00\x00", wire.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := raw(t, Policy{})
			go func() { // the helper may leave before it has taken all
				_, _ = p.conn.Write([]byte(c.says))
				p.conn.Close()
			}()
			err := p.ended()
			if !(c.fails == errAny && err != nil || errors.Is(err, c.fails)) {
				t.Errorf("got %v, want %v", err, c.fails)
			}
		})
	}
}

// errAny stands for an error without a kind.
var errAny = errors.New("any error")

func TestServe_VersionMismatch(t *testing.T) {
	c := raw(t, Policy{})
	c.listen()
	if err := c.w.WriteMagic(); err != nil {
		t.Fatal(err)
	}
	hello := Hello()
	hello.Version, hello.Build = wire.Version+1, "v9.9.9"
	c.send(hello)
	_, err := c.end()
	if !errors.Is(err, wire.CodeVersion) {
		t.Fatalf("got %v", err)
	}
	for _, word := range []string{"version 2", "v9.9.9", "version 1", Version()} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q lacks %q", err.Error(), word)
		}
	}
	if err := c.ended(); !errors.Is(err, wire.CodeVersion) {
		t.Errorf("Serve returned %v", err)
	}
}

func TestServe_Ends(t *testing.T) {
	image := file(t, "image", make([]byte, 1<<20))
	states := []struct {
		name string
		in   func(c *client)
	}{
		{"idle", func(c *client) {}},
		{"open to read", func(c *client) { c.call(openRead(image), new(wire.Opened)) }},
		{"open to write", func(c *client) { c.call(openWrite(image, 1<<20), new(wire.Opened)) }},
		{"reading", func(c *client) {
			dense := file(t, "dense", []byte(strings.Repeat("data", 1<<18)))
			c.call(openRead(dense), new(wire.Opened))
			c.send(&wire.Read{Length: 1 << 20, Window: 1, Compress: wire.CompressOff})
			c.quiet()
		}},
		{"sending", func(c *client) {
			c.call(openRead(image), new(wire.Opened))
			c.send(wire.NewSend(rangeOf(1<<20), 8))
		}},
		{"receiving", func(c *client) {
			c.call(openWrite(image, 1<<20), new(wire.Opened))
			c.send(wire.NewReceive(rangeOf(1<<20), 8))
			c.quiet()
		}},
		{"requests ahead", func(c *client) {
			c.call(openWrite(image, 1<<20), new(wire.Opened))
			c.send(wire.NewReceive(rangeOf(1<<20), 8))
			c.quiet()
			for range maxAhead {
				c.send(stat("/"))
			}
		}},
		{"within a frame", func(c *client) { c.bytes("\x10\x00\x00\x00\x00\x00") }},
		{"frames ahead", func(c *client) {
			c.call(openRead(image), new(wire.Opened))
			c.send(wire.NewSend(rangeOf(1<<20), 8))
			for range inboxSize / 2 {
				c.send(stray())
			}
		}},
	}
	for _, s := range states {
		t.Run(s.name+"/end of stream", func(t *testing.T) {
			c := connect(t, Policy{})
			s.in(c)
			c.hangUp()
		})
		t.Run(s.name+"/context", func(t *testing.T) {
			c := connect(t, Policy{})
			s.in(c)
			c.cancel()
			_ = c.ended() // and its goroutines with it
			for range c.frames {
			}
		})
	}
	t.Run("greeting/context", func(t *testing.T) {
		c := raw(t, Policy{})
		c.cancel()
		_ = c.ended()
	})
}

func TestServe_Garbage(t *testing.T) {
	for _, c := range []struct {
		name, says string
		fails      error
	}{
		{"too long", "\x10\x00\x00\x00\xff\xff\xff\xff", wire.ErrTooLong},
		{"reserved bits", "\x10\x00\x00\x01\x00\x00\x00\x00", wire.ErrInvalid},
		{"text", "GET / HTTP/1.1\r\n", wire.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := connect(t, Policy{})
			p.bytes(c.says)
			if err := p.ended(); !errors.Is(err, c.fails) {
				t.Errorf("got %v, want %v", err, c.fails)
			}
		})
	}
}
