package blockdev

import (
	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// readErrorChoices are the values of the option read_errors, in the order of the wire.
type readErrorChoices struct{}

func (readErrorChoices) Choices() []string {
	return []string{wire.ReadStop: "stop", wire.ReadZero: "zero", wire.ReadSkip: "skip"}
}

func (readErrorChoices) Type() string { return "stop|zero|skip" }

// ReadErrors is the option read_errors.
type ReadErrors = fs.Enum[readErrorChoices]

func readErrorsOption() fs.Option {
	return fs.Option{
		Name:    "read_errors",
		Default: ReadErrors(wire.ReadStop),
		Help: `What to do where a source cannot be read.

"stop" ends the copy there. "zero" and "skip" go on, for what can be saved of a
dying disk: with "zero" the places are zeros in the target, with "skip" the target
keeps what it has there. All places are listed, the copy is completed, and then it
counts as failed all the same, so that nobody takes it for a whole one.

It is the option of the remote that is read; of the target when a local file is
read. "skip" needs something that keeps its bytes: another object of this backend
or the option reference.`,
		Examples: []fs.OptionExample{
			{Value: "stop", Help: "End the copy."},
			{Value: "zero", Help: "Go on, with zeros in the target."},
			{Value: "skip", Help: "Go on, and leave the target as it is there."},
		},
		Advanced: true,
	}
}
