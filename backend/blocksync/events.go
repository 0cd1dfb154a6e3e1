package blocksync

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
)

// The events of --json. docs/blocksync.md describes them: keys may be added, but
// none is renamed, removed or given another meaning.

type startEvent struct {
	Event     string    `json:"event"` // "start"
	Time      time.Time `json:"time"`
	Source    endEvent  `json:"source"`
	Target    endEvent  `json:"target"`
	Size      int64     `json:"size"`      // bytes to compare
	BlockSize int       `json:"blockSize"` // bytes
	DryRun    bool      `json:"dryRun"`
}

type endEvent struct {
	Name string `json:"name"` // as it was typed
	Kind string `json:"kind"` // device, image or object
	Size int64  `json:"size"` // bytes, before the copy
	New  bool   `json:"new"`  // it does not exist yet
}

type progressEvent struct {
	Event   string    `json:"event"` // "progress"
	Time    time.Time `json:"time"`
	Done    int64     `json:"done"`    // bytes compared
	Size    int64     `json:"size"`    // bytes to compare
	Changed int64     `json:"changed"` // bytes that differ
	Zeroed  int64     `json:"zeroed"`  // bytes that become zero
	Wire    int64     `json:"wire"`    // bytes that crossed the network
	Rate    int64     `json:"rate"`    // bytes compared in a second
	ETA     *float64  `json:"eta"`     // seconds, null when not known
}

type resultEvent struct {
	Event         string    `json:"event"` // "end"
	Time          time.Time `json:"time"`
	OK            bool      `json:"ok"`
	Error         string    `json:"error,omitempty"`
	DryRun        bool      `json:"dryRun"`
	Scanned       int64     `json:"scanned"` // bytes
	Equal         int64     `json:"equal"`   // bytes
	Changed       int64     `json:"changed"` // bytes
	Zeroed        int64     `json:"zeroed"`  // bytes
	ChangedBlocks int64     `json:"changedBlocks"`
	ZeroedBlocks  int64     `json:"zeroedBlocks"`
	Wire          int64     `json:"wire"`               // bytes
	Rate          int64     `json:"rate"`               // bytes compared in a second
	Took          float64   `json:"took"`               // seconds
	SpeedUp       *float64  `json:"speedUp"`            // null when nothing was moved
	Estimate      *float64  `json:"estimate,omitempty"` // seconds, of a dry run
	Whole         bool      `json:"whole"`              // all was moved, not by blocks
	Root          string    `json:"root,omitempty"`     // of both ends, with --verify
	Receipt       string    `json:"receipt,omitempty"`  // file, when one was written
	Trusted       int64     `json:"trusted,omitempty"`  // bytes of the target that were not read

	Unreadable       []blockdev.Range `json:"unreadable,omitempty"`       // places of the source, the first 1000
	UnreadablePlaces int              `json:"unreadablePlaces,omitempty"` // all of them
	UnreadableBytes  int64            `json:"unreadableBytes,omitempty"`  // of all of them
}

// events is the view of --json.
type events struct {
	out, err io.Writer

	mu    sync.Mutex
	ended bool // hold mu
}

// emit writes an event on a line of its own.
func (v *events) emit(event any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return
	}
	_, v.ended = event.(*resultEvent)
	text, err := json.Marshal(event)
	if err != nil {
		panic("internal error: an event is not serialisable: " + err.Error())
	}
	fmt.Fprintf(v.out, "%s\n", text)
}

func (v *events) say(format string, args ...any) { fmt.Fprintf(v.err, format+"\n", args...) }

func (v *events) start(j *job) {
	v.emit(&startEvent{Event: "start", Time: time.Now(), Source: j.src.event(), Target: j.dst.event(),
		Size: j.result.size, BlockSize: j.result.blockSize, DryRun: j.result.dry})
}

func (e *end) event() endEvent {
	return endEvent{Name: e.typed, Kind: e.kind(), Size: e.size(), New: e.obj == nil}
}

func (v *events) every() time.Duration { return time.Second }

func (v *events) progress(s state) {
	e := &progressEvent{Event: "progress", Time: time.Now(), Done: s.Settled, Size: s.size, Changed: s.Changed, Zeroed: s.Zeroed,
		Wire: s.Wire, Rate: int64(s.rate())}
	if left, ok := s.pace().ETA(); ok {
		e.ETA = new(left.Seconds())
	}
	v.emit(e)
}

func (v *events) end(r *result, err error) {
	e := &resultEvent{Event: "end", Time: time.Now(), OK: err == nil, DryRun: r.dry, Scanned: r.Scanned, Equal: r.Equal, Changed: r.Changed, Zeroed: r.Zeroed,
		ChangedBlocks: r.blocks(r.Changed), ZeroedBlocks: r.blocks(r.Zeroed), Wire: r.Wire, Rate: int64(r.rate()), Took: r.Took.Seconds(), Whole: r.whole, Root: r.root, Receipt: r.Receipt, Trusted: r.Trusted,
		Unreadable: r.Unreadable.Ranges, UnreadablePlaces: r.Unreadable.Count, UnreadableBytes: r.Unreadable.Bytes}
	if err != nil {
		e.Error = err.Error()
	}
	if up := r.speedup(); up > 0 && !r.dry {
		e.SpeedUp = &up
	}
	if r.dry && r.Scanned > 0 && !r.whole {
		e.Estimate = new(r.estimate.Seconds())
	}
	v.emit(e)
}
