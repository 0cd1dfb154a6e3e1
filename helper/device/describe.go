package device

import (
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Property is one fact about a device or file. A key with several values occurs
// several times. What the system does not tell is left out.
type Property struct{ Key, Value string }

// Describe tells all that is known of what path leads to. It is opened, for
// reading, only to look what is on it. The keys are in docs/blockdev.md.
func Describe(path string, look bool) ([]Property, error) {
	info, err := Stat(path)
	if err != nil {
		return nil, err
	}
	var p properties
	p.text("kind", info.Kind.String())
	if real, err := filepath.EvalSymlinks(path); err == nil {
		p.text("path", real)
	}
	if info.Kind != Dir {
		p.number("size", info.Size)
	}
	if info.Kind == File {
		p.text("mtime", info.ModTime.Format(time.RFC3339Nano))
		if info.Allocated >= 0 {
			p.number("allocated", info.Allocated)
		}
	}
	if info.Kind == Block {
		p.number("logical-sector-size", int64(info.BlockSize))
		p.flag("read-only", info.ReadOnly)
		p.flag("rotational", info.Rotational)
	}
	p = p.system(info)
	if look && info.Kind != Dir {
		return p.look(path, info), nil
	}
	return p.ids(lastingIDs(info, false)), nil
}

// Keys of what is not text.
var (
	numberKeys = []string{"size", "allocated", "logical-sector-size", "physical-sector-size", "optimal-io-size",
		"discard-granularity", "discard-max", "write-zeroes-max"}
	flagKeys = []string{"discard", "thin", "rotational", "removable", "read-only"}
	listKeys = []string{"holder", "mount", "ids", "content", "in-use"}
)

// Values are facts as JSON has them, by key: numbers, flags, lists and text. What is not
// known here stays text.
func Values(all []Property) map[string]any {
	out := map[string]any{}
	for _, p := range all {
		var value any = p.Value
		var err error
		switch {
		case slices.Contains(listKeys, p.Key):
			list, _ := out[p.Key].([]string)
			value = append(list, p.Value)
		case slices.Contains(numberKeys, p.Key):
			value, err = strconv.ParseInt(p.Value, 10, 64)
		case slices.Contains(flagKeys, p.Key):
			value, err = strconv.ParseBool(p.Value)
		}
		if err != nil {
			value = p.Value
		}
		out[p.Key] = value
	}
	return out
}

// properties collects facts.
type properties []Property

func (p *properties) text(key, value string) {
	if value != "" {
		*p = append(*p, Property{key, value})
	}
}

func (p properties) ids(ids []string) properties {
	for _, id := range ids {
		p.text("ids", id)
	}
	return p
}

func (p *properties) number(key string, n int64) { p.text(key, strconv.FormatInt(n, 10)) }

func (p *properties) flag(key string, v bool) { p.text(key, strconv.FormatBool(v)) }
