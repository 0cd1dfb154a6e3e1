// Package witness keeps, from the end of one run of a transfer to the beginning of the
// next, the proof that nobody has written to its target in between. It is for a target
// that one helper leads the writing of, and of which package device tells the facts.
//
// The record of a target is a file in a private directory that does not outlive the boot.
// It says what the facts were when the run had ended: after all that anybody had written
// was durable, and before the claim on the target was given up. No record, or one fact
// that is another one, is no proof.
package witness

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// Run is the name of a run, drawn at random by the client. The zero Run is none.
type Run [16]byte

// Target is what is told of a target; a [device.Object] that leads the writing of it.
type Target interface {
	Key() string
	Facts() (*device.Account, error)
	Seal(limit time.Duration) error
	LastWrite() int64
}

// followerTime is how long the streams of a transfer that ends have to end too.
const followerTime = 20 * time.Second

// Witness is for one run.
type Witness struct {
	run   Run
	file  string
	begun int64 // nanoseconds since 1970
}

// writes is the file in which the followers note when they have written last.
func writes(file string) string { return file + ".writes" }

// Found is what the record of the run before says.
type Found struct {
	Since  Run    // since the end of this run nobody has written to the target; zero for none
	Doubt  string // why there is none, for people
	Unseen string // what no record can show, for people
}

// Begin looks whether the target is as a run before has left it, and removes the record.
// It must come before anything is written. The error says why no proof can be kept of this
// target.
func Begin(t Target, run Run) (*Witness, *Found, error) {
	dir, err := stateDir()
	if err != nil {
		return nil, nil, err
	}
	file := dir + "/" + t.Key()
	before, readErr := read(file)
	if err := remove(file); err != nil { // what it says is about to be untrue
		return nil, nil, err
	}
	begun := time.Now().UnixNano()
	now, err := t.Facts()
	if err == nil {
		err = store(writes(file), nil)
	}
	if err != nil {
		return nil, nil, err
	}
	w, f := &Witness{run, file, begun}, &Found{Unseen: now.Unseen}
	switch {
	case readErr != nil:
		f.Doubt = readErr.Error()
	default:
		f.Since, f.Doubt = compare(before, now.Facts)
	}
	return w, f, nil
}

// End keeps the record of the run, when nothing of it will be written any more, and the
// claim on the target is still held. There is none when somebody else has written since
// the transfer did so last: whoever has interrupted it may think that it is over. Then the
// next run is told why.
func (w *Witness) End(t Target) error {
	defer w.Drop()
	err := w.end(t)
	if err != nil {
		_ = store(w.file, encodeWhy(err))
	}
	return err
}

func (w *Witness) end(t Target) error {
	if err := t.Seal(followerTime); err != nil {
		return err
	}
	now, err := t.Facts()
	if err != nil {
		return err
	}
	last, err := lastOf(writes(w.file))
	if err != nil {
		return err
	}
	if ours := max(last, w.begun, t.LastWrite()); now.Stamp > ours {
		return fmt.Errorf("%s: somebody has written to it after the transfer did so last", now.Stamped)
	}
	return store(w.file, encode(w.run, now.Facts))
}

// Drop ends a run of which no record is kept. A nil Witness has nothing to drop.
func (w *Witness) Drop() {
	if w != nil {
		_ = remove(writes(w.file))
	}
}

// Follow notes when a follower has written last, before it gives up its claim, for the
// leader to know. One that does not come to it leaves a stamp that the leader does not
// know, and so no record.
func Follow(t Target) {
	if dir, err := stateDir(); err == nil && t.LastWrite() > 0 {
		note(writes(dir+"/"+t.Key()), fmt.Sprintf("%d\n", t.LastWrite()))
	}
}

// lastOf is the last of the times that followers have noted.
func lastOf(file string) (last int64, err error) {
	text, err := readOwn(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		at, err := strconv.ParseInt(strings.TrimSuffix(line, "\n"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: is damaged", file)
		}
		last = max(last, at)
	}
	return last, nil
}

// errNone is for a target without a record.
var errNone = errors.New("the helpers of the copy before have left no proof: they were killed, the host was started anew, or another copy came between")

// record is what a file has.
type record struct {
	run   Run
	facts []device.Fact
}

// What a record begins with, and one that says why there is no proof.
const (
	heading    = "blockdev witness 1"
	headingWhy = "blockdev witness 1: none"
)

// encodeWhy is the text of a record without a proof.
func encodeWhy(err error) []byte {
	why := err.Error()
	return fmt.Appendf(nil, "%s\n%q\nend\n", headingWhy, why[:min(len(why), mostWhy)])
}

// mostWhy is how many bytes of a reason are kept.
const mostWhy = 1000

// encode is the text of a record: a heading, the run, a line for each fact, and a last
// line that tells that nothing is missing.
func encode(run Run, facts []device.Fact) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n%x\n", heading, run)
	for _, f := range facts {
		fmt.Fprintf(&b, "%q %q\n", f.What, f.Value)
	}
	b.WriteString("end\n")
	return b.Bytes()
}

// decode is the other end of encode.
func decode(text []byte) (r record, err error) {
	damaged := errors.New("the proof that the helpers have left is damaged")
	if said, ok := strings.CutPrefix(string(text), headingWhy+"\n"); ok {
		var why string
		if n, err := fmt.Sscanf(said, "%q\nend\n", &why); err != nil || n != 1 {
			return r, damaged
		}
		return r, fmt.Errorf("the helpers of the copy before have left no proof: %s", why)
	}
	body, ok := strings.CutSuffix(string(text), "end\n")
	lines := strings.Split(body, "\n")
	if !ok || len(lines) < 4 || lines[0] != heading || lines[len(lines)-1] != "" {
		return r, damaged
	}
	run, err := hex.DecodeString(lines[1])
	if err != nil || len(run) != len(r.run) || Run(run) == (Run{}) {
		return r, damaged
	}
	r.run = Run(run)
	for _, line := range lines[2 : len(lines)-1] {
		var f device.Fact
		if n, err := fmt.Sscanf(line, "%q %q", &f.What, &f.Value); err != nil || n != 2 {
			return r, damaged
		}
		r.facts = append(r.facts, f)
	}
	return r, nil
}

// compare gives the run of a record whose facts are those of now, else the first that is
// another one.
func compare(before record, now []device.Fact) (since Run, doubt string) {
	for i, f := range now {
		switch {
		case i >= len(before.facts) || before.facts[i].What != f.What:
			return since, fmt.Sprintf("it does not consist of what it consisted of: %s is new", f.What)
		case before.facts[i].Value != f.Value:
			return since, fmt.Sprintf("somebody may have written to it since: %s was %s and is %s", f.What, before.facts[i].Value, f.Value)
		}
	}
	if len(now) < len(before.facts) {
		return since, fmt.Sprintf("it does not consist of what it consisted of: %s is gone", before.facts[len(now)].What)
	}
	return before.run, ""
}
