package blockdev

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/fserrors"
	"github.com/rclone/rclone/lib/atexit"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// trusting are the ranges of a copy whose content on the target is known from a run
// before, and proved to be so still. What is left to find out is whether the source has
// the same. A nil trusting has none.
type trusting struct {
	mu   sync.Mutex
	todo []known // hold mu
	done []known // equal, the target not having been read; hold mu
}

func (t *trusting) next() (k known, ok bool) {
	if t == nil {
		return k, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.todo) == 0 {
		return k, false
	}
	k, t.todo = t.todo[0], t.todo[1:]
	return k, true
}

func (t *trusting) giveBack(k known) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.todo = append([]known{k}, t.todo...)
}

func (t *trusting) finish(k known) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = append(t.done, k)
}

func (t *trusting) left() int {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.todo)
}

// bytes is how much of the target was not read.
func (t *trusting) bytes() (n int64) {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.done {
		n += k.Length
	}
	return n
}

// rest is what of the stripes is not trusted.
func (t *trusting) rest(stripes []block.Range) []block.Range {
	if t == nil {
		return stripes
	}
	return rest(stripes, t.todo)
}

// end makes all of them parts that are compared as any other.
func (t *trusting) end(p *parts, blockSize int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.done {
		p.add(part{k.blocks(blockSize), k.Length})
	}
	for _, k := range t.todo {
		p.add(part{k.blocks(blockSize), 0})
	}
	t.todo, t.done = nil, nil
}

// beginTrust takes up what the run before knew of the target, where that is wanted, and
// begins to keep the proof for the next one. Nothing was written yet.
func (c *copying) beginTrust(ctx context.Context, how ReadErrors) error {
	o := c.t.o
	if c.journal == nil || o.fs.opt.Resume != resumeTrust {
		return c.journal.disown()
	}
	if why := c.t.noTrust(how); why != "" {
		fs.Logf(o, "resume = trust has no effect: %s", why)
		return c.journal.disown()
	}
	c.trusting = &trusting{}
	return c.prove(ctx, true)
}

// noTrust is why all of the target is read whatever is known of it, empty for no reason.
func (t *target) noTrust(how ReadErrors) string {
	switch {
	case t.receipt != nil:
		return "a receipt says what the target holds, so all of it is read"
	case t.req.Verify == wire.VerifyFull:
		return "verify = full reads all of the target"
	case t.req.Undo != "", t.req.Apply != wire.ApplyDirect:
		return "with undo and apply, what was begun is gone on with by its log alone"
	case wire.ReadErrors(how) != wire.ReadStop:
		return "with read_errors, what the target holds is not what the source has"
	case t.req.Zero == wire.ZeroWrite && t.lead.opened.Entry.Kind == wire.KindFile:
		return "zero = write changes an image file whenever it is opened"
	}
	return ""
}

// prove asks the helper since when nobody has written to the target. Where that is not
// the end of the run that the journal is of, nothing is trusted. With sample some of it
// is read.
func (c *copying) prove(ctx context.Context, sample bool) error {
	var run wire.Claim
	rand.Read(run[:])
	proof, err := c.t.lead.s.Trust(ctx, run)
	if err != nil {
		return err
	}
	name, since := "", ""
	if proof.Able {
		name = hex.EncodeToString(run[:])
	}
	if proof.Since != (wire.Claim{}) {
		since = hex.EncodeToString(proof.Since[:])
	}
	known, lost, err := c.journal.begin(name, since)
	if err != nil {
		return err
	}
	doubt := proof.Doubt
	if doubt == "" && lost > 0 {
		doubt = "another copy to it came between"
	}
	if sample && lost == 0 && len(known) > 0 {
		if doubt, err = c.sample(ctx, known); err != nil {
			return err
		}
		if doubt != "" {
			known, lost = nil, len(known)
			err = c.journal.distrust()
		}
	}
	switch {
	case !proof.Able:
		fs.Logf(c.t.o, "resume = trust has no effect: %s", proof.Doubt)
	case lost > 0:
		fs.Logf(c.t.o, "not trusted, and all is compared: %s", doubt)
	case sample && len(known) > 0:
		fs.Infof(c.t.o, "nobody has written to the target since the copy before was interrupted: %d parts are not read there again", len(known))
	}
	switch {
	case sample:
		c.trusting.todo = known
	case lost > 0 || !proof.Able:
		c.trusting.end(c.parts, c.plan.blockSize())
	}
	return err
}

// samplePart is the part of what is trusted that is read nevertheless, of which there is
// block.StripeSize at least.
const samplePart = 100

// sample reads some of what is known of the target, and tells when it is not so.
func (c *copying) sample(ctx context.Context, all []known) (doubt string, err error) {
	all = slices.Clone(all)
	mrand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	total := int64(0)
	for _, k := range all {
		total += k.Length
	}
	read := int64(0)
	for _, k := range all {
		if read >= max(total/samplePart, block.StripeSize) {
			break
		}
		root, err := c.t.lead.s.Root(ctx, k.blocks(c.plan.blockSize()), func(int64) {})
		if err != nil {
			return "", err
		}
		if hex.EncodeToString(root[:]) != k.Root {
			return "a sample of the target at byte " + fs.SizeSuffix(k.Offset).String() + " is not what it was, though no write was seen: somebody writes to it in a way that its host does not see", nil
		}
		read += k.Length
	}
	c.report.sampled = read
	return "", nil
}

// goByRoot compares what is known of one range of the target with the source. It is false
// when there is none left.
func (c *copying) goByRoot(ctx context.Context, src *lease) (more bool, err error) {
	k, ok := c.trusting.next()
	if !ok {
		return false, nil
	}
	r := k.blocks(c.plan.blockSize())
	root, err := src.s.Root(ctx, r, func(int64) {})
	switch {
	case err != nil && (isLost(err) || ctx.Err() != nil):
		c.trusting.giveBack(k)
		return true, err
	case err == nil && hex.EncodeToString(root[:]) == k.Root:
		c.trusting.finish(k)
		c.progress(k.Length)
		if c.plan.Mark != nil {
			c.plan.Mark(k.Offset, k.Length, host.FateEqual)
		}
		return true, nil
	}
	// What cannot be read says so when it is compared.
	if err := c.journal.distrust(k); err != nil {
		return true, err
	}
	c.parts.add(part{Range: r})
	return true, nil
}

// errInterrupted ends a copy when the program was told to end.
var errInterrupted = fserrors.FatalError(errors.New("interrupted"))

// gently ends a copy before the program ends by a signal, so that its helpers see the end
// of it: a helper in this process cannot keep a proof afterwards. over must be called
// before the copy returns.
func (c *copying) gently(ctx context.Context) (limited context.Context, over func()) {
	if c.t.o.fs.opt.Resume != resumeTrust {
		return ctx, func() {}
	}
	limited, stop := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	c.t.closed = sync.OnceFunc(func() { close(ended) })
	handle := atexit.Register(func() {
		c.t.interrupted.Store(true)
		stop(errInterrupted)
		select {
		case <-ended:
		case <-time.After(abortTime):
		}
	})
	return limited, func() {
		c.t.closed()
		atexit.Unregister(handle)
		stop(nil)
	}
}
