package helper

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const patience = 5 * time.Second

// client is a client that takes every frame as soon as it comes, and so sees how far the helper goes by itself.
type client struct {
	t      *testing.T
	conn   net.Conn
	r      *wire.Reader
	w      *wire.Writer
	frames chan wire.Frame // copies; closed at the end of the stream
	served chan error
	cancel context.CancelFunc
}

// raw starts a helper and takes its greeting, but says nothing yet.
func raw(t *testing.T, p Policy) *client {
	t.Helper()
	harness.Goroutines(t)
	near, far := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{t: t, conn: near, r: wire.NewReader(near), w: wire.NewWriter(near),
		frames: make(chan wire.Frame, 1<<16), served: make(chan error, 1), cancel: cancel}
	go func() { c.served <- Serve(ctx, far, p) }()
	t.Cleanup(func() { near.Close(); cancel() })
	if said, err := c.r.SkipTo(wire.Magic); err != nil || len(said) != 0 {
		t.Fatalf("%q before the magic, %v", said, err)
	}
	f, err := c.r.Next()
	if err != nil || f.Type != wire.TypeHello {
		t.Fatalf("first frame %#x, %v", f.Type, err)
	}
	f.Release()
	return c
}

// connect starts a helper and greets it.
func connect(t *testing.T, p Policy) *client {
	t.Helper()
	c := raw(t, p)
	c.listen()
	if err := c.w.WriteMagic(); err != nil {
		t.Fatal(err)
	}
	c.send(Hello())
	return c
}

func (c *client) listen() {
	go func() {
		defer close(c.frames)
		for {
			f, err := c.r.Next()
			if err != nil {
				return
			}
			c.frames <- wire.Frame{Type: f.Type, Payload: bytes.Clone(f.Payload)}
			f.Release()
		}
	}()
}

func (c *client) send(messages ...wire.Message) {
	c.t.Helper()
	for _, m := range messages {
		if err := c.w.Write(m); err != nil {
			c.t.Fatalf("%T: %v", m, err)
		}
	}
}

// bytes sends what no Writer would.
func (c *client) bytes(b string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, b); err != nil {
		c.t.Fatal(err)
	}
}

// next returns the next frame; ok is false at the end of the stream.
func (c *client) next() (f wire.Frame, ok bool) {
	c.t.Helper()
	select {
	case f, ok = <-c.frames:
		return f, ok
	case <-time.After(patience):
		c.t.Fatal("the helper says nothing")
		return
	}
}

// quiet returns the frames that come before the helper falls silent.
func (c *client) quiet() (all []wire.Frame) {
	for {
		select {
		case f, ok := <-c.frames:
			if !ok {
				return all
			}
			all = append(all, f)
		case <-time.After(100 * time.Millisecond):
			return all
		}
	}
}

// Next, Write, Queue and Flush make the client the link of a transfer.
func (c *client) Next(ctx context.Context, idle func() error) (wire.Frame, error) {
	if idle != nil && len(c.frames) == 0 {
		if err := idle(); err != nil {
			return wire.Frame{}, err
		}
	}
	select {
	case f, ok := <-c.frames:
		if !ok {
			return f, io.ErrUnexpectedEOF
		}
		if f.Type == wire.TypeError {
			return f, c.failure(f)
		}
		return f, nil
	case <-ctx.Done():
		return wire.Frame{}, context.Cause(ctx)
	}
}

func (c *client) Write(m wire.Message) error { return c.w.Write(m) }
func (c *client) Queue(m wire.Message) error { return c.w.Queue(m) }
func (c *client) Flush() error               { return c.w.Flush() }

func (c *client) failure(f wire.Frame) error {
	c.t.Helper()
	e := new(wire.Error)
	if err := f.Decode(e); err != nil {
		c.t.Fatal(err)
	}
	return e
}

// end returns the frames of a request, and its error.
func (c *client) end() (all []wire.Frame, err error) {
	c.t.Helper()
	for {
		f, ok := c.next()
		switch {
		case !ok:
			return all, io.ErrUnexpectedEOF
		case f.Type == wire.TypeDone:
			return all, nil
		case f.Type == wire.TypeError:
			return all, c.failure(f)
		}
		all = append(all, f)
	}
}

// call makes a request that succeeds, and decodes its last reply into m, which may be nil.
func (c *client) call(req, m wire.Message) {
	c.t.Helper()
	c.send(req)
	all, err := c.end()
	if err != nil {
		c.t.Fatalf("%T: %v", req, err)
	}
	if m == nil && len(all) == 0 {
		return
	}
	if m == nil || len(all) == 0 {
		c.t.Fatalf("%T: %d replies", req, len(all))
	}
	if err := all[len(all)-1].Decode(m); err != nil {
		c.t.Fatalf("%T: %v", req, err)
	}
}

// fails makes a request that must end with the code.
func (c *client) fails(code wire.Code, req wire.Message) {
	c.t.Helper()
	c.send(req)
	if _, err := c.end(); !errors.Is(err, code) {
		c.t.Errorf("%T: got %v, want code %d", req, err, code)
	}
}

// usable proves that the session serves further requests.
func (c *client) usable() {
	c.t.Helper()
	var m wire.Entries
	c.call(stat("/"), &m)
	if len(m.Entries) != 1 || m.Entries[0].Kind != wire.KindDir {
		c.t.Errorf("stat of / gives %+v", m.Entries)
	}
}

// ended returns what Serve returned, and that soon.
func (c *client) ended() error {
	c.t.Helper()
	select {
	case err := <-c.served:
		return err
	case <-time.After(patience):
		c.t.Fatal("Serve goes on")
		return nil
	}
}

// hangUp closes the stream of the client; Serve must end without an error.
func (c *client) hangUp() {
	c.t.Helper()
	c.conn.Close()
	if err := c.ended(); err != nil {
		c.t.Errorf("Serve returned %v", err)
	}
}

func stat(path string) *wire.Stat {
	m := new(wire.Stat)
	m.Path = path
	return m
}

func openRead(path string) *wire.Open {
	m := new(wire.Open)
	m.Path = path
	return m
}

func openWrite(path string, size int64) *wire.Open {
	m := openRead(path)
	m.Write, m.Lead, m.Size, m.Claim = true, true, size, wire.Claim{1}
	return m
}

// file makes a file in the test's folder.
func file(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
