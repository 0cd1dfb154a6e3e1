package blockdev

import (
	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// applyChoices are the values of the option apply, in the order of the wire.
type applyChoices struct{}

func (applyChoices) Choices() []string {
	return []string{wire.ApplyDirect: "direct", wire.ApplyReflink: "reflink"}
}

func (applyChoices) Type() string { return "direct|reflink" }

// Application is the option apply.
type Application = fs.Enum[applyChoices]

func applyOption() fs.Option {
	return fs.Option{
		Name:    "apply",
		Default: Application(wire.ApplyDirect),
		Help: `How a target becomes what the source is.

"direct" writes in place: a copy that ends early leaves it partly updated.
"reflink" is for image files on XFS and Btrfs: the changes go to a clone, which
shares all blocks with the image and takes its name when it is complete and
durable. Until then, whatever happens, the image is as it was. Devices, and file
systems that cannot clone, are refused.`,
		Examples: []fs.OptionExample{
			{Value: "direct", Help: "Write in place."},
			{Value: "reflink", Help: "Replace an image file by a changed clone."},
		},
		Advanced: true,
	}
}
