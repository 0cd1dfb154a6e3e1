package host

import (
	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// directChoices are the values of the option direct, in the order of the wire.
type directChoices struct{}

func (directChoices) Choices() []string {
	return []string{wire.DirectOff: "off", wire.DirectAuto: "auto", wire.DirectOn: "on"}
}

func (directChoices) Type() string { return "auto|off|on" }

// Direct is the option direct.
type Direct = fs.Enum[directChoices]
