package harness

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The two ends of a recorded session.
const (
	FromClient = 'C'
	FromHelper = 'H'
)

// Recording is a session of one release, to be played to a later one. A frame is one line of its file: who sent it,
// its type, and its payload in hexadecimal, with the strings that begin with the path of the test's folder written as
// @"the rest".
type Recording struct {
	Lines []RecordedFrame
}

// RecordedFrame is one frame of a recording.
type RecordedFrame struct {
	From    byte
	Type    byte
	Payload string // as in the file
}

// recordedMagic opens both directions and is in no line.
const recordedMagic = "\x00\xffblkdev"

// ReadRecording reads the file at path.
func ReadRecording(t testing.TB, path string) *Recording {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := new(Recording)
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.SplitN(line, " ", 3)
		var kind uint64
		if len(words) >= 2 {
			kind, err = strconv.ParseUint(words[1], 16, 8)
		}
		if len(words) < 2 || err != nil || len(words[0]) != 1 {
			t.Fatalf("%s, line %d is no frame", path, i+1)
		}
		r.Lines = append(r.Lines, RecordedFrame{words[0][0], byte(kind), strings.Join(words[2:], "")})
	}
	return r
}

// Write writes the recording to path, below a comment.
func (r *Recording) Write(t testing.TB, path, comment string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", comment)
	for _, l := range r.Lines {
		b.WriteString(strings.TrimSpace(fmt.Sprintf("%c %02x %s", l.From, l.Type, l.Payload)) + "\n")
	}
	writeFile(t, path, []byte(b.String()))
}

// inFolder writes a payload as in the file.
func inFolder(payload []byte, dir string) string {
	at := bytes.Index(payload, []byte(dir))
	if at < 2 || dir == "" {
		return hex.EncodeToString(payload)
	}
	end := at + int(binary.BigEndian.Uint16(payload[at-2:]))
	if end > len(payload) {
		return hex.EncodeToString(payload)
	}
	return strings.TrimSpace(hex.EncodeToString(payload[:at-2]) + " @" + strconv.Quote(string(payload[at+len(dir):end])) +
		" " + inFolder(payload[end:], dir))
}

// bytes is the payload with the strings in the folder dir.
func (l RecordedFrame) bytes(dir string) (payload []byte, err error) {
	for rest := l.Payload; rest != ""; rest = strings.TrimSpace(rest) {
		if quoted, ok := strings.CutPrefix(rest, "@"); ok {
			word, err := strconv.QuotedPrefix(quoted)
			if err != nil {
				return nil, err
			}
			name, err := strconv.Unquote(word)
			if err != nil {
				return nil, err
			}
			payload = binary.BigEndian.AppendUint16(payload, uint16(len(dir)+len(name)))
			payload = append(append(payload, dir...), name...)
			rest = quoted[len(word):]
			continue
		}
		word, more, _ := strings.Cut(rest, " ")
		part, err := hex.DecodeString(word)
		if err != nil {
			return nil, err
		}
		payload, rest = append(payload, part...), more
	}
	return payload, nil
}

// Recorder stands between the two ends of a session and writes down what they say.
type Recorder struct {
	dir string

	mu   sync.Mutex
	done Recording // hold mu
}

// Join joins a client to a helper until one of them hangs up.
func (r *Recorder) Join(client, helper net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { r.pass(helper, client, FromClient) })
	both.Go(func() { r.pass(client, helper, FromHelper) })
	both.Wait()
}

// NewRecorder records a session about files in dir.
func NewRecorder(dir string) *Recorder { return &Recorder{dir: dir} }

// Recording is what was said so far.
func (r *Recorder) Recording() *Recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Recording{append([]RecordedFrame(nil), r.done.Lines...)}
}

func (r *Recorder) pass(dst, src net.Conn, from byte) {
	defer dst.Close()
	defer src.Close()
	magic := make([]byte, len(recordedMagic))
	if _, err := io.ReadFull(src, magic); err != nil {
		return
	}
	if _, err := dst.Write(magic); err != nil {
		return
	}
	for {
		f, err := readFrame(src)
		if err != nil {
			return
		}
		r.mu.Lock() // across the write, so that no answer is written down before its question
		r.done.Lines = append(r.done.Lines, RecordedFrame{from, f.kind, inFolder(f.payload, r.dir)})
		r.mu.Unlock()
		if _, err := dst.Write(f.encode()); err != nil {
			return
		}
	}
}

// rawFrame is a frame as it is on the stream.
type rawFrame struct {
	kind    byte
	payload []byte
}

func readFrame(r io.Reader) (f rawFrame, err error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	const limit = 2 << 20 // more than any frame may have
	n := binary.BigEndian.Uint32(head[4:])
	if n > limit {
		return f, fmt.Errorf("a frame of %d bytes", n)
	}
	f = rawFrame{head[0], make([]byte, n)}
	_, err = io.ReadFull(r, f.payload)
	return f, err
}

func (f rawFrame) encode() []byte {
	b := append(make([]byte, 0, 8+len(f.payload)), f.kind, 0, 0, 0)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(f.payload))), f.payload...)
}

// RecordedContent is what a recorded session is about: n bytes without a zero block.
func RecordedContent(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// RecordedImages are the file that a recorded session writes, as it is before and after. They are two extents and a
// short one: the first is equal, and of the others some blocks differ, of which one becomes zero.
func RecordedImages() (before, after []byte) {
	after = RecordedContent(2<<20+4096+100, 1)
	clear(after[1<<20+10*4096 : 1<<20+11*4096])
	before = bytes.Clone(after)
	for _, at := range []int{1<<20 + 3*4096, 1<<20 + 10*4096, 2<<20 + 4096} {
		before[at] ^= 0xff
	}
	return before, after
}
