package snapshot

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// What is stored, and what processes tell each other, is lines: a key, and values as Go quotes strings. Package
// encoding/json would make the helper a tenth larger.

// line is one of them.
type line struct {
	key    string
	values []string
}

// add appends a line.
func add(b []byte, key string, values ...string) []byte {
	b = append(b, key...)
	for _, v := range values {
		b = strconv.AppendQuote(append(b, ' '), v)
	}
	return append(b, '\n')
}

var errNoLine = errors.New("it is damaged")

// parseLine is what add has appended, without the end of the line.
func parseLine(text string) (l line, err error) {
	key, rest, _ := strings.Cut(text, " ")
	l.key = key
	for rest != "" {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return l, errNoLine
		}
		v, err := strconv.Unquote(quoted)
		if err != nil {
			return l, errNoLine
		}
		l.values = append(l.values, v)
		rest = strings.TrimPrefix(rest[len(quoted):], " ")
	}
	return l, nil
}

// value is the value of a line that has one.
func (l *line) value(n int) string {
	if n < len(l.values) {
		return l.values[n]
	}
	return ""
}

// duration is a value in nanoseconds.
func (l *line) duration() (time.Duration, error) {
	n, err := strconv.ParseInt(l.value(0), 10, 64)
	return time.Duration(n), err
}

// time is a value in nanoseconds since 1970.
func (l *line) time() (time.Time, error) {
	n, err := strconv.ParseInt(l.value(0), 10, 64)
	return time.Unix(0, n), err
}

// fields are the texts of a Spec, and the lists, by their keys.
func (s *Spec) fields() (texts map[string]*string, lists map[string]*[]string) {
	return map[string]*string{"owner": &s.Owner, "path": &s.Path, "kind": &s.Kind, "space": &s.Space},
		map[string]*[]string{"group": &s.Group, "freeze": &s.Freeze, "take": &s.Take, "drop": &s.Drop, "before": &s.Before, "after": &s.After}
}

// marshal is the Spec as lines.
func (s *Spec) marshal(b []byte) []byte {
	texts, lists := s.fields()
	for key, v := range texts {
		b = add(b, key, *v)
	}
	for key, v := range lists {
		b = add(b, key, *v...)
	}
	b = add(b, "write", strconv.FormatBool(s.Write))
	b = add(b, "limited", strconv.FormatBool(s.Limited))
	b = add(b, "freeze-time", strconv.FormatInt(int64(s.FreezeTime), 10))
	return add(b, "grace", strconv.FormatInt(int64(s.Grace), 10))
}

// take sets what one line says, and tells whether it was one of marshal.
func (s *Spec) take(l line) (known bool, err error) {
	texts, lists := s.fields()
	if v := texts[l.key]; v != nil {
		*v = l.value(0)
		return true, nil
	}
	if v := lists[l.key]; v != nil {
		*v = l.values
		return true, nil
	}
	switch l.key {
	case "write":
		s.Write = l.value(0) == "true"
	case "limited":
		s.Limited = l.value(0) == "true"
	case "freeze-time":
		s.FreezeTime, err = l.duration()
	case "grace":
		s.Grace, err = l.duration()
	default:
		return false, nil
	}
	return true, err
}

// unmarshal reads what marshal wrote; others gets the lines that are none of its.
func (s *Spec) unmarshal(text string, others func(line) error) error {
	for row := range strings.Lines(text) {
		l, err := parseLine(strings.TrimSuffix(row, "\n"))
		known := false
		if err == nil {
			known, err = s.take(l)
		}
		if err == nil && !known {
			err = others(l)
		}
		if err != nil {
			return err
		}
	}
	if s.Owner == "" {
		return errNoLine
	}
	return nil
}

// marshal is the Member as one line.
func (m *Member) marshal(b []byte) []byte {
	return add(b, "member", m.Path, m.ID, m.Kind, m.Name, m.Device, m.Origin, strconv.FormatInt(m.Size, 10), m.Undo)
}

func (m *Member) unmarshal(l line) (err error) {
	m.Path, m.ID, m.Kind, m.Name = l.value(0), l.value(1), l.value(2), l.value(3)
	m.Device, m.Origin, m.Undo = l.value(4), l.value(5), l.value(7)
	m.Size, err = strconv.ParseInt(l.value(6), 10, 64)
	return err
}

// marshal is the problem as one line.
func (p *problem) marshal(b []byte) []byte { return add(b, "problem", p.Kind, p.Path, p.Text) }

func (l *line) problem() *problem { return &problem{l.value(0), l.value(1), l.value(2)} }
