package blockdev

import (
	"errors"

	"github.com/rclone-blockdev/rclone-blockdev/backend/devmap"
	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// kindOf is how a map shows what became of bytes.
var kindOf = map[host.Fate]devmap.Kind{
	host.FateEqual: devmap.Equal, host.FateEmpty: devmap.Hole, host.FateZeroed: devmap.Zeroed, host.FateChanged: devmap.Changed,
}

// Marks gives a Plan's Mark for a map.
func Marks(m *devmap.Map) func(off, n int64, f host.Fate) {
	return func(off, n int64, f host.Fate) { m.Mark(off, n, kindOf[f]) }
}

// Totals puts the numbers of a result into the legend of a map, and shows the places
// that could not be read.
func (o Outcome) Totals(m *devmap.Map) {
	m.Total(devmap.Hole, min(o.Empty, o.Equal))
	m.Total(devmap.Equal, max(0, o.Equal-o.Empty))
	m.Total(devmap.Zeroed, o.Zeroed)
	m.Total(devmap.Changed, o.Changed)
	for _, r := range o.Unreadable.Ranges {
		m.Mark(r.Offset, r.Length, devmap.Error)
	}
}

// MarkError shows in a map where what ended with err has failed, as far as it says.
func MarkError(m *devmap.Map, err error) {
	var at *wire.Error
	if errors.As(err, &at) && at.Offset >= 0 {
		m.Mark(at.Offset, 1, devmap.Error)
	}
}

// outcome is d as that of a copy.
func (d *Difference) outcome() Outcome {
	return Outcome{Scanned: d.Scanned, Equal: d.Equal, Changed: d.Changed, Zeroed: d.Zeroed, Empty: d.Empty, Wire: d.Wire, Took: d.Took,
		Unreadable: d.Unreadable}
}
