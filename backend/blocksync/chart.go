package blocksync

import (
	"cmp"
	"path/filepath"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/backend/devmap"
	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
)

// chart is the picture of --map. The methods of a nil one do nothing.
type chart struct {
	file *devmap.File
	once sync.Once // draw

	mu sync.Mutex
	m  *devmap.Map // nil before begin; hold mu
}

// openChart makes the file of the picture, before anything is asked or read.
func (j *job) openChart() error {
	if j.opt.Map == "" {
		return nil
	}
	for _, typed := range j.typed {
		if at, _ := parse(typed, configured); at.host == host.Localhost && same(at.path, j.opt.Map) {
			return wrong("--map %s: is %s itself", j.opt.Map, typed)
		}
	}
	file, err := devmap.Create(j.opt.Map, devmap.Layout(cmp.Or(j.opt.MapLayout, string(devmap.Hilbert))))
	if err != nil {
		return wrong("%v", err)
	}
	j.chart = &chart{file: file}
	return nil
}

func same(path, other string) bool {
	abs, err := filepath.Abs(other)
	return err == nil && filepath.ToSlash(abs) == path
}

// begin makes the grid, when the size is known.
func (c *chart) begin(j *job) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m = devmap.New(j.result.size, j.result.blockSize)
}

// mark is what a plan tells.
func (c *chart) mark() func(off, n int64, f host.Fate) {
	if c == nil {
		return nil
	}
	return blockdev.Marks(c.m)
}

// draw writes the picture of what was done until it ended with err, once. When
// nothing was begun there is none.
func (c *chart) draw(j *job, err error) (failed error) {
	if c == nil {
		return nil
	}
	c.once.Do(func() {
		c.mu.Lock()
		m := c.m
		c.mu.Unlock()
		if m == nil {
			c.file.Discard()
			return
		}
		caption := devmap.Caption{From: j.src.String(), To: j.dst.String()}
		if j.result.dry {
			caption.Note = "dry run: nothing was written"
		}
		switch {
		case j.result.Scanned > 0: // complete, whatever came after it
			j.result.Totals(m)
		case err != nil:
			blockdev.MarkError(m, err)
			caption.Note = "stopped: " + err.Error()
		}
		if failed = c.file.Write(m, caption); failed == nil {
			j.view.say("map: %s", c.file.Path())
		}
	})
	return failed
}
