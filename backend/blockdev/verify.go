package blockdev

import (
	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// verifyChoices are the values of the option verify, in the order of the wire.
type verifyChoices struct{}

func (verifyChoices) Choices() []string {
	return []string{wire.VerifyOff: "false", wire.VerifyWritten: "true", wire.VerifyFull: "full"}
}

func (verifyChoices) Type() string { return "false|true|full" }

// Verification is the option verify.
type Verification = fs.Enum[verifyChoices]

func verifyOption() fs.Option {
	return fs.Option{
		Name:    "verify",
		Default: Verification(wire.VerifyOff),
		Help: `Read again from the medium what was written, before the copy succeeds.

"true" reads each MiB in which something was written, "full" all of the target,
past the page cache of its host, once it is durable and range by range. What the
disk has not kept is written once more; if it does not keep it then either, the
copy fails and names the bytes. This costs the time to read so much at the target,
and nothing on the wire.`,
		Examples: []fs.OptionExample{
			{Value: "false", Help: "Trust the disk."},
			{Value: "true", Help: "Read what was written."},
			{Value: "full", Help: "Read everything."},
		},
		Advanced: true,
	}
}
