package host

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// diagnosisWait is how long Diagnosis waits for the exit status, which
	// arrives shortly after the end of the output.
	diagnosisWait = 2 * time.Second
	// farewellWait is how long a helper may take to end by itself after its
	// input was closed, before it is cut off.
	farewellWait = 500 * time.Millisecond
	stderrKept   = 4 << 10 // bytes
)

// process is one running remote command.
type process struct {
	stdin  io.WriteCloser
	stdout io.Reader
	stderr *tail
	exited chan struct{} // closed when status is valid
	status error         // nil: exit code 0; valid after exited
	kill   func()        // cuts the command off; may be called more than once
}

// stop lets the command end by itself, then cuts it off.
func (p *process) stop() {
	_ = p.stdin.Close()
	p.wait(farewellWait)
	p.kill()
}

// wait reports whether the command ended within the limit; 0 means by now.
func (p *process) wait(limit time.Duration) bool {
	if limit == 0 {
		return isClosed(p.exited)
	}
	select {
	case <-p.exited:
		return true
	case <-time.After(limit):
		return false
	}
}

// last says what is known about the end of the command, on one line: its
// status and the last of what it wrote to stderr.
func (p *process) last(limit time.Duration) string {
	ended := p.wait(limit)
	text := oneLine(p.stderr.String(), 400)
	switch {
	case !ended && text == "":
		return "still running"
	case !ended:
		return "still running: " + text
	case p.status == nil && text == "":
		return "it ended without a message"
	case p.status == nil:
		return text
	case text == "":
		return oneLine(p.status.Error(), 200)
	}
	return fmt.Sprintf("%s (%s)", text, oneLine(p.status.Error(), 200))
}

// Stream is the byte stream of one running helper: Read gives its standard
// output from the magic on, Write feeds its standard input.
type Stream struct {
	input io.Reader
	proc  *process
	once  sync.Once
	ended func() // tells the connection that the stream is gone
}

// Read reads the helper's output.
func (s *Stream) Read(p []byte) (int, error) { return s.input.Read(p) }

// Write writes to the helper's input.
func (s *Stream) Write(p []byte) (int, error) { return s.proc.stdin.Write(p) }

// Close ends the helper and frees the stream. Reads and writes under way
// return. It waits shortly for the helper to end by itself.
func (s *Stream) Close() error {
	s.once.Do(func() {
		s.proc.stop()
		if s.ended != nil {
			s.ended()
		}
	})
	return nil
}

// Diagnosis tells why the stream ended, for a message: the last of what the
// helper or the host wrote to stderr, made printable and cut, and the exit
// status. It waits up to two seconds for these.
func (s *Stream) Diagnosis() string { return s.proc.last(diagnosisWait) }

// tail keeps the last bytes written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte // hold mu
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - stderrKept; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
