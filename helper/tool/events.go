package tool

import (
	"io"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/rclone-blockdev/rclone-blockdev/helper/progress"
)

// events is the view of --json. docs/helper.md describes the events: keys may be added,
// but none is renamed, removed or given another meaning.
type events struct {
	out, err io.Writer

	mu    sync.Mutex
	ended bool // hold mu
}

// emit writes an event on a line of its own, of keys and values in turn. After the end
// there are no more.
func (v *events) emit(event string, pairs ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return
	}
	v.ended = event == "end"
	_, _ = v.out.Write(appendObject(nil, append([]any{"event", event, "time", time.Now()}, pairs...)))
}

func (v *events) start(s started) {
	v.emit("start", "command", s.command, "arguments", s.arguments, "size", s.size, "blockSize", s.blockSize)
}

func (v *events) every() time.Duration { return time.Second }

func (v *events) progress(s progress.State) {
	var eta any
	if left, ok := s.ETA(); ok {
		eta = left.Seconds()
	}
	v.emit("progress", "done", s.Done, "size", s.Size, "rate", int64(s.Rate()), "eta", eta)
}

func (v *events) notice(text string) { _, _ = io.WriteString(v.err, text+"\n") }

func (v *events) differs(s span) { v.emit("difference", "offset", s.off, "length", s.n) }

func (v *events) end(r *result) {
	pairs := []any{"ok", r.err == nil}
	if r.err != nil {
		pairs = append(pairs, "error", r.err.Error())
	}
	pairs = append(pairs, "size", r.size, "blockSize", int64(r.blockSize))
	if r.root != "" {
		pairs = append(pairs, "root", r.root)
	}
	if r.compared {
		pairs = append(pairs, "equal", r.ranges == 0, "differing", r.differing, "ranges", r.ranges)
	}
	if r.written {
		pairs = append(pairs, "extents", r.extents, "zeroExtents", r.zeroExtents)
	}
	if r.output != "" {
		pairs = append(pairs, "output", r.output)
	}
	v.emit("end", append(pairs, "rate", r.rate(), "took", r.took.Seconds())...)
}

// appendObject appends a JSON object on one line. Package encoding/json, with what it
// needs, would make the helper a sixteenth larger.
func appendObject(b []byte, pairs []any) []byte {
	for i := 0; i+1 < len(pairs); i += 2 {
		b = append(b, "{,"[min(i, 1)])
		key, _ := pairs[i].(string)
		b = append(appendString(b, key), ':')
		b = appendValue(b, pairs[i+1])
	}
	return append(b, "}\n"...)
}

func appendValue(b []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		return appendString(b, v)
	case time.Time:
		return append(v.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
	case int64:
		return strconv.AppendInt(b, v, 10)
	case float64: // finite, all that are shown
		return strconv.AppendFloat(b, v, 'f', -1, 64)
	case bool:
		return strconv.AppendBool(b, v)
	case []string:
		b = append(b, '[')
		for i, s := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, s)
		}
		return append(b, ']')
	}
	return append(b, "null"...)
}

func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, c := range s { // what is no UTF-8 comes as U+FFFD
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = utf8.AppendRune(b, c)
		}
	}
	return append(b, '"')
}
