package blockdev

import (
	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// zeroChoices are the values of the option zero, in the order of the wire.
type zeroChoices struct{}

func (zeroChoices) Choices() []string {
	return []string{wire.ZeroAuto: "auto", wire.ZeroWrite: "write", wire.ZeroPunch: "punch"}
}

func (zeroChoices) Type() string { return "auto|write|punch" }

// Zeroing is the option zero.
type Zeroing = fs.Enum[zeroChoices]

func zeroOption() fs.Option {
	return fs.Option{
		Name:    "zero",
		Default: Zeroing(wire.ZeroAuto),
		Help: `How ranges of a target become zero.

"auto" frees their space where that is proved to give zeros, and writes zeros
elsewhere: images stay sparse and thin volumes thin. "write" writes zeros, frees
nothing, and gives an image file all its space before anything is written to it.
"punch" is "auto" for targets that can free space, and refuses all others. What
is zero at both ends is never touched.`,
		Examples: []fs.OptionExample{
			{Value: "auto", Help: "Free space where possible."},
			{Value: "write", Help: "Free nothing."},
			{Value: "punch", Help: "Free space or refuse."},
		},
		Advanced: true,
	}
}
