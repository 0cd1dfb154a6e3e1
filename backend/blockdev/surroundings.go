package blockdev

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/lib/atexit"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// What is made ready on a host around transfers: snapshots, and hooks. The helper
// there makes and undoes it; this side gives it a name, shares it among those who
// read the same, and says when it is over.

const (
	lingerTime   = 30 * time.Second // a set that was not read to its end is kept for the next reader
	concludeTime = 15 * time.Minute // for removal and the hook
	hurryTime    = 5 * time.Second  // when the program is being ended
)

// surroundings is one set.
type surroundings struct {
	f   *Fs
	at  place
	req wire.Prepare
	key string // in f.sets; empty for one that nobody shares

	attaching sync.Mutex // one at a time: the first makes the set

	mu     sync.Mutex
	made   int64           // when the set was made, 0 for not yet; hold mu
	stale  bool            // it is another set than users began with; hold mu
	unsure bool            // it may have been made without that being known; hold mu
	holder *host.Session   // of hold; hold mu
	users  int             // hold mu
	done   map[string]bool // paths that were read to their end; hold mu
	failed bool            // hold mu
	timer  *time.Timer     // runs while nobody uses it; hold mu
	ended  bool            // hold mu
	stop   func()          // of the handler for a program that is ended
}

// sets are those of an Fs that readers share.
type sets struct {
	mu  sync.Mutex
	all map[string]*surroundings // hold mu
}

// user is one reader or writer within surroundings. All methods work on nil, which
// is for transfers that need none.
type user struct {
	s      *surroundings
	path   string
	joined int64 // the set that was there already, 0 for none
	over   bool  // leave was called; owned by the caller
}

// reading is for one who reads what is at a place.
func (f *Fs) reading(at place) (*user, error) {
	opt := &f.opt
	kind := wire.Snapshotting(opt.Snapshot)
	if kind == wire.SnapshotNone && len(opt.BeforeRead)+len(opt.AfterRead) == 0 {
		return nil, nil
	}
	key := at.host.String() + ":" + at.path
	grouped := kind != wire.SnapshotNone && slices.Contains(opt.SnapshotGroup, at.path)
	if grouped {
		key = at.host.String()
	}
	f.sets.mu.Lock()
	defer f.sets.mu.Unlock()
	joined, ok := int64(0), false
	s := f.sets.all[key]
	if s != nil {
		joined, ok = s.join()
	}
	if !ok {
		fresh, err := f.surround(at, kind)
		if err != nil {
			return nil, err
		}
		if s = fresh; grouped {
			s.req.Group = opt.SnapshotGroup
		}
		s.key, s.req.Before, s.req.After = key, opt.BeforeRead, opt.AfterRead
		if f.sets.all == nil {
			f.sets.all = map[string]*surroundings{}
		}
		f.sets.all[key] = s
	}
	return &user{s: s, path: at.path, joined: joined}, nil
}

// readingOf is reading for a source of this backend, nil for any other.
func readingOf(src fs.ObjectInfo, from place) (*user, error) {
	if o, ok := src.(*Object); ok {
		return o.fs.reading(from)
	}
	return nil, nil
}

// writing is for one who writes what is at a place.
func (f *Fs) writing(at place) (*user, error) {
	if len(f.opt.BeforeWrite)+len(f.opt.AfterWrite) == 0 {
		return nil, nil
	}
	s, err := f.surround(at, wire.SnapshotNone)
	if err != nil {
		return nil, err
	}
	s.req.Write, s.req.Before, s.req.After = true, f.opt.BeforeWrite, f.opt.AfterWrite
	return &user{s: s, path: at.path}, nil
}

// surround makes surroundings with one user.
func (f *Fs) surround(at place, kind wire.Snapshotting) (*surroundings, error) {
	space, err := f.opt.space()
	if err != nil {
		return nil, err
	}
	s := &surroundings{f: f, at: at, users: 1, done: map[string]bool{}}
	s.req.Grace = min(time.Duration(f.opt.RetryTime).Milliseconds(), wire.MaxWait)
	if kind != wire.SnapshotNone {
		s.req.Kind, s.req.Space, s.req.Freeze = kind, space, f.opt.SnapshotFreeze
		s.req.FreezeTime = min(time.Duration(f.opt.FreezeTimeout).Milliseconds(), wire.MaxWait)
	}
	if kind == wire.SnapshotCommand {
		if len(f.opt.SnapshotCommand) == 0 || len(f.opt.SnapshotRemove) == 0 {
			return nil, refuse("snapshot = command: set snapshot_command and snapshot_remove_command")
		}
		s.req.Take, s.req.Drop = f.opt.SnapshotCommand, f.opt.SnapshotRemove
	}
	if words := slices.Max([]int{len(s.req.Take), len(s.req.Drop), len(f.opt.BeforeRead), len(f.opt.AfterRead), len(f.opt.BeforeWrite), len(f.opt.AfterWrite),
		len(f.opt.SnapshotGroup), len(f.opt.SnapshotFreeze)}); words > wire.MaxDirectory {
		return nil, refuse("a program, snapshot_group or snapshot_freeze with %d words: %d are allowed", words, wire.MaxDirectory)
	}
	rand.Read(s.req.Owner[:])
	handle := atexit.Register(func() { s.conclude(false, false, hurryTime) })
	s.stop = func() { atexit.Unregister(handle) }
	return s, nil
}

// join adds a user, unless the set has ended. made is the set that the user joins, 0
// when it is still to be made.
func (s *surroundings) join() (made int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return 0, false
	}
	if s.users++; s.timer != nil {
		s.timer.Stop()
	}
	return s.made, true
}

// errGone is for readers who have begun with a set that is not there any more. Only the
// whole command may be repeated: what rclone does at a low level begins where it was.
var errGone = fserrors.NoLowLevelRetryError(errors.New(
	"the snapshot that was read before is gone, as after a restart of the host, or a connection that was lost for longer than retry_time"))

// attach makes the set, or finds it, on a session that is about to open the path. made
// is another number when it is another set than before. With follow it must exist.
func (u *user) attach(ctx context.Context, on *host.Session, follow bool) (made int64, err error) {
	if u == nil {
		return 0, nil
	}
	s := u.s
	s.attaching.Lock()
	defer s.attaching.Unlock()
	req := s.req
	req.Path, req.Follow = u.path, follow
	got, err := on.Prepare(ctx, &req)
	var we *wire.Error
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.unsure = s.unsure || !errors.As(err, &we) || we.Code == wire.CodeCancelled
		return 0, err
	}
	if s.made == 0 && got.Device != "" {
		fs.Infof(s.at.host, "reading the snapshot %s of %s", got.Device, u.path)
	}
	s.made = got.Made
	if u.joined != 0 && u.joined != got.Made { // what others have read does not fit
		s.stale = true
		_ = on.Detach(ctx)
		return 0, errGone
	}
	return got.Made, nil
}

// check tells why what was read of a set is void: a snapshot that overflowed, or is gone.
func (u *user) check(ctx context.Context, made int64) error {
	if u == nil || u.s.req.Kind == wire.SnapshotNone {
		return nil
	}
	on, err := u.s.at.host.Session(ctx)
	if err != nil {
		return err
	}
	defer on.Release()
	now, err := u.attach(ctx, on, true)
	if err != nil {
		return err
	}
	if err := on.Detach(ctx); err != nil {
		return err
	}
	if now != made {
		return errGone
	}
	return nil
}

// explain is err, or why the snapshot that was read is void.
func (u *user) explain(ctx context.Context, err error) error {
	if u == nil || !errors.Is(err, wire.CodeIO) {
		return err
	}
	if void := u.check(context.WithoutCancel(ctx), 0); errors.Is(void, wire.CodeNoSpace) {
		return void
	}
	return err
}

// finish is called when the path was read or written, and when that failed.
func (u *user) finish(done bool) { u.leave(done, !done, true) }

// closed is finish for a reader, which may have read a part. Another one may go on with
// the set then.
func (u *user) closed(whole bool, err error) { u.leave(whole && err == nil, err != nil, false) }

// leave ends the set when its last user leaves it and all was read, or when that was
// final. Else it is held for the next one.
func (u *user) leave(done, failed, final bool) {
	if u == nil || u.over {
		return
	}
	u.over = true
	s := u.s
	s.mu.Lock()
	s.users--
	s.failed = s.failed || failed
	if done {
		s.done[u.path] = true
	}
	idle, grouped := s.users == 0, len(s.req.Group) > 0
	last := idle && (s.key == "" || s.stale || !s.more() || final && !grouped)
	if idle && !last && !grouped {
		s.timer = time.AfterFunc(lingerTime, func() { s.conclude(true, true, concludeTime) })
	}
	s.mu.Unlock()
	switch {
	case last:
		s.conclude(false, true, concludeTime)
	case idle:
		s.hold()
	}
}

// hold keeps a session that needs the set while nobody else does. Without it the host
// would end the set after the grace time.
func (s *surroundings) hold() {
	ctx, cancel := context.WithTimeout(context.Background(), abortTime)
	defer cancel()
	s.mu.Lock()
	needed := s.made != 0 && s.holder == nil && !s.ended
	s.mu.Unlock()
	if !needed {
		return
	}
	on, err := s.at.host.Session(ctx)
	if err == nil {
		req := s.req
		req.Path, req.Follow = s.at.path, true
		if _, err = on.Prepare(ctx, &req); err != nil {
			on.Release()
		}
	}
	if err != nil {
		fs.Debugf(s.at.host, "the snapshot of %s is not held: %v", s.at.path, err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.holder != nil { // meanwhile
		on.Release()
		return
	}
	s.holder = on
}

// more tells whether somebody may still want to read the set: in pieces, after a
// failure, or what else is in the group. Hold mu.
func (s *surroundings) more() bool {
	if len(s.req.Group) == 0 {
		return !s.done[s.at.path]
	}
	return slices.ContainsFunc(s.req.Group, func(path string) bool { return !s.done[path] })
}

// conclude ends the set, unless it is to be idle and somebody uses it. With wait it
// says what came of it. A host that is not reached ends the set by itself.
func (s *surroundings) conclude(idle, wait bool, limit time.Duration) {
	s.mu.Lock()
	if s.ended || idle && s.users > 0 {
		s.mu.Unlock()
		return
	}
	s.ended = true
	made, unsure, holder := s.made != 0, s.unsure, s.holder
	req := &wire.Conclude{Owner: s.req.Owner, Failed: s.failed || s.users > 0, Wait: wait && made}
	s.mu.Unlock()
	s.stop()
	s.f.sets.drop(s)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if holder != nil {
		_ = holder.Detach(ctx)
		holder.Release()
	}
	if !made && !unsure {
		return // it was never made
	}
	err := s.at.with(ctx, func(on *host.Session) error { return on.Conclude(ctx, req) })
	switch {
	case err == nil, !made:
	case isLost(err):
		fs.Logf(s.at.host, "could not be told that the transfer of %s is over, and removes its snapshot by itself: %v", s.at.path, err)
	default:
		_ = fs.CountError(ctx, fserrors.NoRetryError(err))
		fs.Errorf(s.at.host, "the transfer of %s is over, but: %v; see rclone backend snapshots", s.at.path, err)
	}
}

func (all *sets) drop(s *surroundings) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.all[s.key] == s {
		delete(all.all, s.key)
	}
}

// conclude ends all sets that nobody uses.
func (all *sets) conclude() {
	all.mu.Lock()
	now := slices.Collect(maps.Values(all.all))
	all.mu.Unlock()
	for _, s := range now {
		s.conclude(true, true, concludeTime)
	}
}

// space is the option snapshot_size as the helper wants it.
func (o *Options) space() (string, error) {
	size := strings.TrimSpace(o.SnapshotSize)
	if size == "" || strings.HasSuffix(size, "%") {
		return size, nil
	}
	var n fs.SizeSuffix
	if err := n.Set(size); err != nil || n <= 0 {
		return "", refuse("snapshot_size: %q is neither a size, as in 10Gi, nor a percentage, as in 20%%", size)
	}
	return strconv.FormatInt(int64(n), 10), nil
}
