package host

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// ignore is for requests that have no reply but their end.
func ignore(f *wire.Frame) error {
	return fmt.Errorf("protocol error: the helper sent a frame of type %#02x that was not asked for", uint8(f.Type))
}

// ask sends a request that has one reply, which it decodes into m.
func (s *Session) ask(ctx context.Context, req, m wire.Message) error {
	defer s.took(time.Now())
	if err := s.start(req); err != nil {
		return err
	}
	return s.reply(ctx, m)
}

// reply awaits the end of the running request and its one reply. Done without it
// is no success: nothing would be taken for something.
func (s *Session) reply(ctx context.Context, m wire.Message) error {
	replies := 0
	err := s.await(ctx, func(f *wire.Frame) error {
		replies++
		return f.Decode(m)
	})
	if err == nil && replies != 1 {
		return fmt.Errorf("protocol error: the helper of %s gave %d replies of type %#02x", s.host.name, replies, uint8(m.Type()))
	}
	return err
}

// Stat describes the object or directory at path.
func (s *Session) Stat(ctx context.Context, path string) (wire.Entry, error) {
	var req wire.Stat
	req.Path = path
	entries, err := s.entries(ctx, &req)
	if err != nil {
		return wire.Entry{}, err
	}
	if len(entries) != 1 {
		return wire.Entry{}, fmt.Errorf("protocol error: %d entries for %s", len(entries), path)
	}
	return entries[0], nil
}

// maxEntries bounds what a helper can make this side keep of one directory.
const maxEntries = 1 << 20

// List describes what is in the directory path. Names that could lead out of it
// are left out.
func (s *Session) List(ctx context.Context, path string) ([]wire.Entry, error) {
	var req wire.List
	req.Path = path
	entries, err := s.entries(ctx, &req)
	return slices.DeleteFunc(entries, func(e wire.Entry) bool {
		return e.Name == "" || e.Name == "." || e.Name == ".." || strings.Contains(e.Name, "/")
	}), err
}

func (s *Session) entries(ctx context.Context, req wire.Message) (all []wire.Entry, err error) {
	err = s.call(ctx, req, func(f *wire.Frame) error {
		var m wire.Entries
		if err := f.Decode(&m); err != nil {
			return err
		}
		if all = append(all, m.Entries...); len(all) > maxEntries {
			return fmt.Errorf("%s: a directory with more than %d entries", s.host.name, maxEntries)
		}
		return nil
	})
	return all, err
}

// Mkdir makes the directory path and its parents.
func (s *Session) Mkdir(ctx context.Context, path string) error {
	var req wire.Mkdir
	req.Path = path
	return s.call(ctx, &req, ignore)
}

// Rmdir removes the empty directory path.
func (s *Session) Rmdir(ctx context.Context, path string) error {
	var req wire.Rmdir
	req.Path = path
	return s.call(ctx, &req, ignore)
}

// Remove removes the image file path; the helper refuses devices.
func (s *Session) Remove(ctx context.Context, path string) error {
	var req wire.Remove
	req.Path = path
	return s.call(ctx, &req, ignore)
}

// SetTime sets the modification time of the image file path, in nanoseconds
// since 1970.
func (s *Session) SetTime(ctx context.Context, path string, modTime int64) error {
	var req wire.SetTime
	req.Path, req.ModTime = path, modTime
	return s.call(ctx, &req, ignore)
}

// StatFS tells the space of the filesystem that path is on.
func (s *Session) StatFS(ctx context.Context, path string) (u wire.Usage, err error) {
	var req wire.StatFS
	req.Path = path
	return u, s.ask(ctx, &req, &u)
}

// Open opens an object for the requests up to Close.
func (s *Session) Open(ctx context.Context, req *wire.Open) (*wire.Opened, error) {
	asked := *req
	asked.Direct = wire.Direct(s.host.cfg.Direct)
	var m wire.Opened
	err := s.ask(ctx, &asked, &m)
	s.opened = err == nil || !concluded(err)
	if err != nil {
		return nil, err
	}
	for _, lines := range [][]string{m.IDs, m.Content} {
		for i, line := range lines {
			lines[i] = oneLine(line, wire.MaxName)
		}
	}
	return &m, nil
}

// OpenRead opens the object at path for reading.
func (s *Session) OpenRead(ctx context.Context, path string) (*wire.Opened, error) {
	var req wire.Open
	req.Path = path
	return s.Open(ctx, &req)
}

// OpenReader opens the object at path and asks for n bytes at off of it, in one
// round trip. A range that is not within the object is an error.
func (s *Session) OpenReader(ctx context.Context, path string, off, n int64) (*Reader, error) {
	return s.OpenSalvaging(ctx, path, off, n, wire.ReadStop)
}

// OpenSalvaging is OpenReader of what may have places that cannot be read. OnGaps must
// have come before, unless how is to stop there.
func (s *Session) OpenSalvaging(ctx context.Context, path string, off, n int64, how wire.ReadErrors) (*Reader, error) {
	req := wire.Open{ReadErrors: how}
	req.Path = path
	if err := s.start(&req); err != nil {
		return nil, err
	}
	r, err := s.Read(ctx, off, n)
	if err != nil {
		return nil, err
	}
	err = s.reply(ctx, &r.Opened)
	s.opened = err == nil || !concluded(err)
	if err != nil {
		return nil, err
	}
	if off+n > r.Opened.Size {
		r.Close()
		return nil, HasShrunk(path, r.Opened.Size, off, n)
	}
	return r, nil
}

// HasShrunk is the error for an object of size bytes that had n bytes at off when
// it was listed.
func HasShrunk(path string, size, off, n int64) error {
	return wire.Errorf(wire.CodeSource, "%s: ends at byte %d, before the %d bytes at %d: it has shrunk since it was listed", path, size, n, off)
}

// Close ends what Open began, and cancels before what still runs on it, in one
// round trip. With commit the target is complete, and durable when Close returns
// nil; a new image has its name then.
func (s *Session) Close(ctx context.Context, commit bool, modTime int64) error {
	return s.End(ctx, &wire.Close{Commit: commit, ModTime: modTime})
}

// End is Close with all that it can ask for.
func (s *Session) End(ctx context.Context, req *wire.Close) error {
	if !s.opened {
		return nil
	}
	if s.running > 0 {
		if err := s.Write(&wire.Cancel{}); err != nil {
			return err
		}
	}
	err := s.start(req)
	if err == nil {
		err = s.drop(ctx, 1)
	}
	if err == nil {
		err = s.await(ctx, ignore)
	}
	s.opened = !concluded(err) // a helper that answered has closed, whatever it said
	return err
}

// Hash is the SHA-256 of all of what is open. progress is called from time to
// time with the number of bytes done.
func (s *Session) Hash(ctx context.Context, progress func(done int64)) (block.Digest, error) {
	return s.sum(ctx, &wire.Hash{}, progress)
}

// sum makes a request that is answered with Sum after any number of Progress.
func (s *Session) sum(ctx context.Context, req wire.Message, progress func(done int64)) (block.Digest, error) {
	var sum wire.Sum
	sums := 0
	err := s.call(ctx, req, func(f *wire.Frame) error {
		if f.Type != wire.TypeProgress {
			sums++
			return f.Decode(&sum)
		}
		var m wire.Progress
		if err := f.Decode(&m); err != nil {
			return err
		}
		progress(m.Done)
		return nil
	})
	if err == nil && sums != 1 {
		err = fmt.Errorf("protocol error: the helper of %s gave %d hashes", s.host.name, sums)
	}
	return sum.Digest, err
}
