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

// journalEvery is how often a journal is written at most. That of a large disk with what
// is known of it takes a while: no more than 1 part of saveShare of the time.
const (
	journalEvery = time.Second
	saveShare    = 20
)

// journal notes which stripes of a transfer are done, for the order of the next one when
// this one is interrupted. It proves nothing, and a journal that is wrong or lost does no
// harm. A nil journal notes nothing.
type journal struct {
	file  string
	total []int64 // by stripe: bytes

	mu    sync.Mutex
	page  journalPage   // hold mu
	left  []int64       // by stripe: bytes that this run has not done; hold mu
	saved time.Time     // hold mu
	took  time.Duration // for that; hold mu
}

// journalPage is what is in the file.
type journalPage struct {
	Version int     `json:"version"` // 1
	Source  string  `json:"source"`
	Target  string  `json:"target"`
	Size    int64   `json:"size"` // bytes
	Done    []int64 `json:"done"` // by stripe: when it was, in seconds since 1970; 0 for never

	// With resume = trust: what the target held at the end of Run, where that is known.
	Run   string  `json:"run,omitempty"` // hex
	Known []known `json:"known,omitempty"`
}

// newJournal takes up the journal of a transfer of size bytes, or begins one.
func (o *Object) newJournal(from, at place, size int64) *journal {
	if o.fs.opt.Resume == resumeOff || size <= block.StripeSize {
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
		before = journalPage{Done: make([]int64, len(j.left))}
	}
	j.page.Done, j.page.Run, j.page.Known = before.Done, before.Run, before.Known
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

// finish notes that r is done, and that the target holds what has this root.
func (j *journal) finish(r block.Range, root block.Digest) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	news := j.learn(r, root)
	for off, end := r.Offset, r.Offset+r.Length; off < end; {
		i := off / block.StripeSize
		n := min(end, (i+1)*block.StripeSize) - off
		if j.left[i] -= n; j.left[i] <= 0 {
			j.page.Done[i], news = time.Now().Unix(), true
		}
		off += n
	}
	if news && time.Since(j.saved) >= max(journalEvery, saveShare*j.took) {
		_ = j.save() // as at the end
	}
}

// forget notes that nothing may be left of what was done.
func (j *journal) forget() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	copy(j.left, j.total)
	clear(j.page.Done)
	if j.page.Run == "" {
		return nil
	}
	j.page.Known = nil
	return j.save()
}

// end is called when the transfer has ended with err.
func (j *journal) end(err error) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		_ = j.save() // an older one knows less, and of this run nothing that is not so
		return
	}
	_ = os.Remove(j.file) // there may be none
}

// save writes the file. Hold mu. Where that is not possible there is to be none: an old one
// might say what is not known any more.
func (j *journal) save() error {
	start := time.Now()
	if j.undone() == len(j.left) && j.page.Run == "" {
		return nil
	}
	text, err := json.Marshal(&j.page)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(j.file), 0o700)
	}
	if err == nil {
		err = manifest.Store(j.file, func(w io.Writer) error { _, err := w.Write(text); return err })
	}
	j.saved = time.Now()
	j.took = j.saved.Sub(start)
	if err != nil {
		fs.Debugf(nil, "what is done cannot be noted: %v", err)
		return cannotForget(j.file, err)
	}
	return nil
}
