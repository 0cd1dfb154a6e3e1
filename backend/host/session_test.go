package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rclone/rclone/fs/log"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func TestSession_Requests(t *testing.T) {
	harness.Goroutines(t)
	ctx, dir := t.Context(), t.TempDir()
	s := here(t)
	if s.Hello.Version != wire.Version || s.Hello.OS == "" || !s.Local() || s.Wire() != 0 || s.Host().String() != Localhost {
		t.Errorf("%+v", s.Hello)
	}
	path := filepath.Join(dir, "a", "image")
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("mkdir", s.Mkdir(ctx, filepath.Dir(path)))
	check("write", os.WriteFile(path, []byte("hello"), 0o600))
	when := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	check("set time", s.SetTime(ctx, path, when.UnixNano()))
	e, err := s.Stat(ctx, path)
	check("stat", err)
	if e.Name != "image" || e.Size != 5 || e.ModTime != when.UnixNano() {
		t.Errorf("%+v", e)
	}
	for n := range 2*wire.MaxDirectory + 3 {
		check("write", os.WriteFile(filepath.Join(dir, strings.Repeat("x", n+1)), nil, 0o600))
	}
	all, err := s.List(ctx, dir)
	check("list", err)
	if len(all) != 2*wire.MaxDirectory+4 {
		t.Errorf("%d entries", len(all))
	}
	u, err := s.StatFS(ctx, dir)
	check("statfs", err)
	if u.Total == 0 {
		t.Errorf("%+v", u)
	}
	o, err := s.OpenRead(ctx, path)
	check("open", err)
	if o.Size != 5 {
		t.Errorf("%+v", o)
	}
	sum, err := s.Hash(ctx, func(int64) {})
	check("hash", err)
	if sum != sha256.Sum256([]byte("hello")) {
		t.Errorf("%x", sum)
	}
	check("close", s.Close(ctx, false, 0))
	check("close", s.Close(ctx, false, 0))
	check("remove", s.Remove(ctx, path))
	check("rmdir", s.Rmdir(ctx, filepath.Dir(path)))
	_, err = s.Stat(ctx, path)
	if !errors.Is(err, wire.CodeNotFound) || !strings.HasPrefix(err.Error(), "localhost: ") || !strings.Contains(err.Error(), path) {
		t.Errorf("stat of nothing: %v", err)
	}
	usable(t, s)
}

// Whatever a cancelled request has done, the session never comes back with something open.
func TestSession_CancelledOpenClose(t *testing.T) {
	harness.Goroutines(t)
	h := newHost(Config{Host: Localhost})
	defer h.CloseIdle()
	path := imageFile(t, []byte("hello"))
	var cause error = wire.Errorf(wire.CodeSource, "what the helper of another stream has said")
	for i := range 200 {
		ctx, end := context.WithCancelCause(t.Context())
		s := session(t, h)
		if i%2 == 0 {
			end(cause)
		} else {
			go end(cause)
		}
		if _, err := s.Open(ctx, writeRequest(path, 5)); err == nil {
			_ = s.Close(ctx, false, 0)
		} else if !errors.Is(err, cause) {
			t.Fatalf("open: %v", err)
		}
		end(nil)
		s.Release()
		s = session(t, h)
		if _, err := s.Open(t.Context(), writeRequest(path, 5)); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		ctx, end = context.WithCancelCause(t.Context())
		if i%3 == 0 {
			end(cause) // the helper may not even have begun
		}
		if err := s.Close(ctx, false, 0); err != nil && !errors.Is(err, cause) {
			t.Fatal(err)
		}
		end(nil)
		s.Release()
	}
}

func TestSession_Lost(t *testing.T) {
	for name, play := range map[string]func(r *wire.Reader, w *wire.Writer, conn net.Conn){
		"at once":        func(r *wire.Reader, w *wire.Writer, conn net.Conn) {},
		"in a request":   func(r *wire.Reader, w *wire.Writer, conn net.Conn) { _, _ = r.Next() },
		"within a frame": func(r *wire.Reader, w *wire.Writer, conn net.Conn) { _, _ = r.Next(); _, _ = conn.Write([]byte{3, 0}) },
	} {
		t.Run(name, func(t *testing.T) {
			harness.Goroutines(t)
			s := played(t, play)
			_, err := s.Stat(t.Context(), "/")
			wantError(t, err, KindLost, true, "fake", "it fell over")
			_, err = s.Stat(t.Context(), "/")
			wantError(t, err, KindLost, true, "fake")
			if s.alive() {
				t.Error("counts as alive")
			}
		})
	}
}

func TestSession_Garbage(t *testing.T) {
	harness.Goroutines(t)
	answer := func(bytes string) func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
		return func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
			_, _ = r.Next()
			_, _ = conn.Write([]byte(bytes))
			drain(r)
		}
	}
	for name, bytes := range map[string]string{
		"text":          "HTTP/1.1 400 Bad Request\r\n",
		"too long":      "\x20\x00\x00\x00\x7f\x00\x00\x00",
		"reserved bits": "\x03\x00\x01\x00\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			s := played(t, answer(bytes))
			_, err := s.Stat(t.Context(), "/")
			wantError(t, err, KindLost, false, "fake", "protocol error")
		})
	}
	for name, bytes := range map[string]string{
		"unknown frame":  "\x7e\x00\x00\x00\x00\x00\x00\x00",
		"wrong reply":    "\x24\x00\x00\x00\x00\x00\x00\x00",
		"short reply":    "\x20\x00\x00\x00\x00\x00\x00\x01\x00",
		"no reply":       "\x03\x00\x00\x00\x00\x00\x00\x00",
		"short error":    "\x04\x00\x00\x00\x00\x00\x00\x01\x00",
		"hello, again":   "\x01\x00\x00\x00\x00\x00\x00\x00",
		"nothing at all": "",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			for _, ask := range []func(s *Session) error{
				func(s *Session) error { _, err := s.Stat(ctx, "/"); return err },
				func(s *Session) error { _, err := s.StatFS(ctx, "/"); return err },
				func(s *Session) error { _, err := s.OpenRead(ctx, "/x"); return err },
				func(s *Session) error { _, err := s.Hash(ctx, func(int64) {}); return err },
			} {
				if err := ask(played(t, answer(bytes))); err == nil || strings.Contains(err.Error(), "\n") {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

// An optional frame of a later release is nothing to stumble over.
func TestSession_OptionalFrame(t *testing.T) {
	s := played(t, func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
		_, _ = conn.Write([]byte("\x85\x00\x00\x00\x00\x00\x00\x03abc"))
		_, _ = r.Next()
		_, _ = conn.Write([]byte("\x85\x00\x00\x00\x00\x00\x00\x03abc"))
		_ = w.Write(&wire.Usage{Total: 7})
		_, _ = conn.Write([]byte("\x85\x00\x00\x00\x00\x00\x00\x03abc"))
		_ = w.Write(&wire.Done{})
		drain(r)
	})
	if u, err := s.StatFS(t.Context(), "/"); err != nil || u.Total != 7 {
		t.Errorf("%+v, %v", u, err)
	}
}

// What a helper says is shown on one line, and moves no cursor.
func TestSession_RemoteText(t *testing.T) {
	var logged []string
	log.Handler.SetOutput(func(level slog.Level, text string) { logged = append(logged, text) })
	defer log.Handler.ResetOutput()
	s := played(t, func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
		_, _ = r.Next()
		_ = w.Write(&wire.Notice{Text: "it is\r\x1b[2Jmounted\n  now"})
		_ = w.Write(wire.Errorf(wire.CodeBusy, "/dev/x:\n\x1b]0;title\x07 is\tbusy\x00\xff\u009b"))
		drain(r)
	})
	err := s.Remove(t.Context(), "/dev/x")
	if !errors.Is(err, wire.CodeBusy) || err.Error() != "fake: /dev/x: ]0;title is busy" {
		t.Errorf("got %q", err)
	}
	if !s.alive() {
		t.Error("a refusal ends the session")
	}
	if len(logged) != 1 || !strings.Contains(logged[0], "it is [2Jmounted now") {
		t.Errorf("logged %q", logged)
	}
}

// Frames that nobody asked for must not become the reply of the next request.
func TestSession_StrayFrames(t *testing.T) {
	s := played(t, func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
		_, _ = r.Next()
		_ = w.Write(&wire.Done{})
		_ = w.Write(&wire.Done{})
		drain(r)
	})
	if err := s.Remove(t.Context(), "/x"); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if !s.alive() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the session would be used again")
}

// A helper that says more than there is room for before it reads takes a Cancel nonetheless, and the session lasts.
func TestSession_Talkative(t *testing.T) {
	harness.Goroutines(t)
	s := played(t, func(r *wire.Reader, w *wire.Writer, conn net.Conn) {
		_, _ = r.Next()
		for range 10 * inboxSize {
			_ = w.Write(&wire.Usage{})
		}
		if f, err := r.Next(); err == nil && f.Type == wire.TypeCancel {
			_ = w.Write(wire.Errorf(wire.CodeCancelled, "cancelled"))
		}
		drain(r)
	})
	enough, req := errors.New("enough"), new(wire.StatFS)
	req.Path = "/"
	if err := s.call(t.Context(), req, func(*wire.Frame) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if !s.alive() {
		t.Error("was given up")
	}
}

// A helper that does not end a cancelled request in time is given up.
func TestSession_Stuck(t *testing.T) {
	harness.Goroutines(t)
	s := played(t, func(r *wire.Reader, w *wire.Writer, conn net.Conn) { drain(r) })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	if err := s.Remove(ctx, "/x"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if s.alive() {
		t.Error("counts as alive")
	}
}

func TestNewSession_Greeting(t *testing.T) {
	harness.Goroutines(t)
	old := helper.Hello()
	old.Version, old.Build = wire.Version+6, "v7.0.0"
	greet := func(t *testing.T, play func(w *wire.Writer, conn net.Conn)) error {
		near, far := net.Pipe()
		go func() {
			play(wire.NewWriter(far), far)
			far.Close()
		}()
		s, err := newSession(t.Context(), newHost(Config{Host: "fake"}), nil, fakeStream{near, "exit status 3"})
		if err == nil {
			s.close()
		}
		return err
	}
	wantError(t, greet(t, func(w *wire.Writer, conn net.Conn) {
		_ = w.WriteMagic()
		_ = w.Write(old)
	}), KindDeploy, false, "fake", "version 7", "v7.0.0", "version 1", helper.Version(), "install")
	wantError(t, greet(t, func(w *wire.Writer, conn net.Conn) {}), KindLost, true, "exit status 3")
	wantError(t, greet(t, func(w *wire.Writer, conn net.Conn) {
		_, _ = conn.Write([]byte("This account\nis closed."))
	}), KindLost, true, "This account is closed.")
	wantError(t, greet(t, func(w *wire.Writer, conn net.Conn) { _ = w.WriteMagic() }), KindLost, true, "exit status 3")
	if err := greet(t, func(w *wire.Writer, conn net.Conn) {
		_, _ = conn.Write([]byte("Welcome!\r\n"))
		_ = w.WriteMagic()
		_ = w.Write(helper.Hello())
		drain(wire.NewReader(conn))
	}); err != nil {
		t.Error(err)
	}
}

func TestNewSession_Cancel(t *testing.T) {
	harness.Goroutines(t)
	ctx, cancel := context.WithCancel(t.Context())
	near, far := net.Pipe()
	defer far.Close()
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := newSession(ctx, newHost(Config{}), nil, fakeStream{near, ""}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
