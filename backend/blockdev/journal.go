package blockdev

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
)

func resumeOption() fs.Option {
	return fs.Option{
		Name: "resume",
		Help: `Begin with what a copy that was interrupted has not done.

While a copy between devices or images runs, it is noted in the cache directory
which parts of 256 MiB are done. When it does not come to its end, the next one
begins with the others, and compares the noted ones last. Nothing is taken on
trust: all is read and compared as without it, only the order is another one. So
copies that never have the time for all of a disk get to its end.`,
		Default:  true,
		Advanced: true,
	}
}

// journalEvery is how often a journal is written at most.
const journalEvery = time.Second

// journal notes which stripes of a transfer are done, for the order of the next one when
// this one is interrupted. It proves nothing, and a journal that is wrong or lost does no
// harm. A nil journal notes nothing.
type journal struct {
	file  string
	total []int64 // by stripe: bytes

	mu    sync.Mutex
	page  journalPage // hold mu
	left  []int64     // by stripe: bytes that this run has not done; hold mu
	saved time.Time   // hold mu
}

// journalPage is what is in the file.
type journalPage struct {
	Version int     `json:"version"` // 1
	Source  string  `json:"source"`
	Target  string  `json:"target"`
	Size    int64   `json:"size"` // bytes
	Done    []int64 `json:"done"` // by stripe: when it was, in seconds since 1970; 0 for never
}

// newJournal takes up the journal of a transfer of size bytes, or begins one.
func (o *Object) newJournal(from, at place, size int64) *journal {
	if !o.fs.opt.Resume || size <= block.StripeSize {
		return nil
	}
	j := &journal{page: journalPage{Version: 1, Source: receiptName(from), Target: receiptName(at), Size: size}}
	for _, r := range block.Stripes(size, block.DefaultSize) {
		j.total = append(j.total, r.Length)
	}
	j.left = slices.Clone(j.total)
	sum := sha256.Sum256([]byte(j.page.Source + "\x00" + j.page.Target))
	j.file = filepath.Join(config.GetCacheDir(), "blockdev", "journals", hex.EncodeToString(sum[:16])+".json")
	var before journalPage
	text, err := os.ReadFile(j.file)
	if err == nil {
		err = json.Unmarshal(text, &before)
	}
	same := err == nil && before.Version == 1 && before.Source == j.page.Source && before.Target == j.page.Target && before.Size == size && len(before.Done) == len(j.left)
	if !same {
		before.Done = make([]int64, len(j.left))
	}
	j.page.Done = before.Done
	if n := len(j.left) - j.undone(); n > 0 {
		fs.Infof(o, "the copy before was interrupted: %d of %d parts were read through then, and come last now", n, len(j.left))
	}
	return j
}

// undone is how many stripes were never done.
func (j *journal) undone() (n int) {
	for _, at := range j.page.Done {
		if at == 0 {
			n++
		}
	}
	return n
}

// order sorts stripes: those that were never done first, then those that were done
// longest ago.
func (j *journal) order(stripes []block.Range) []block.Range {
	if j == nil {
		return stripes
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	when := func(r block.Range) int64 { return j.page.Done[r.Offset/block.StripeSize] }
	slices.SortStableFunc(stripes, func(a, b block.Range) int { return cmp.Compare(when(a), when(b)) })
	return stripes
}

// finish notes that r is done.
func (j *journal) finish(r block.Range) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	news := false
	for off, end := r.Offset, r.Offset+r.Length; off < end; {
		i := off / block.StripeSize
		n := min(end, (i+1)*block.StripeSize) - off
		if j.left[i] -= n; j.left[i] <= 0 {
			j.page.Done[i], news = time.Now().Unix(), true
		}
		off += n
	}
	if news && time.Since(j.saved) >= journalEvery {
		j.save()
	}
}

// forget notes that nothing may be left of what was done.
func (j *journal) forget() {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	copy(j.left, j.total)
	clear(j.page.Done)
}

// end is called when the transfer has ended with err.
func (j *journal) end(err error) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.save()
		return
	}
	_ = os.Remove(j.file) // there may be none
}

// save writes the file. Hold mu.
func (j *journal) save() {
	j.saved = time.Now()
	if j.undone() == len(j.left) {
		return
	}
	text, err := json.Marshal(&j.page)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(j.file), 0o700)
	}
	if err == nil {
		err = manifest.Store(j.file, func(w io.Writer) error { _, err := w.Write(text); return err })
	}
	if err != nil {
		fs.Debugf(nil, "what is done cannot be noted: %v", err)
	}
}
