package blockdev

import "github.com/rclone/rclone/fs"

// resumeChoices are the values of the option resume. It was true or false once, and true
// is the order alone.
type resumeChoices struct{}

func (resumeChoices) Choices() []string { return []string{"order", "false", "trust", "true"} }

func (resumeChoices) Type() string { return "order|false|trust" }

// Resuming is the option resume.
type Resuming = fs.Enum[resumeChoices]

const (
	resumeOff   Resuming = 1
	resumeTrust Resuming = 2
)

func resumeOption() fs.Option {
	return fs.Option{
		Name: "resume",
		Help: `What a copy does with the parts that one before, which was interrupted, has done.

While a copy between devices or images runs, it is noted in the cache directory
which parts of 256 MiB are done. When it does not come to its end, the next one
begins with the others. With "order" that is all: the noted parts come last, and are
read and compared as without it. So copies that never have the time for all of a disk
get to its end.

With "trust" the noted parts are not read again on the target when its host proves
that nobody has written to it since: by its counters of what is written to the disk,
or the times of an image file, which the helpers note at their end. The source is
read in any case. Parts of the target are read as a sample, 256 MiB or 1 %. Any doubt
means that all is compared, and a notice says which. No host sees what is written to
its disk by others: not for disks that other hosts reach as well, virtual disks that
are changed from outside, or while programs send commands of their own to the disk.
It has no effect together with receipt, undo, apply, verify = full and read_errors,
and for other targets than disks, volumes and image files of Linux. The manual says
more, under "Not reading again".`,
		Default: Resuming(0),
		Examples: []fs.OptionExample{
			{Value: "order", Help: "Read all, the noted parts last."},
			{Value: "false", Help: "Note nothing."},
			{Value: "trust", Help: "Do not read what the host proves to be as it was."},
		},
		Advanced: true,
	}
}
