package blockdev

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rclone/rclone/fs"
)

// command is a backend command: its help, the arguments it takes, and what it
// does. What run returns is printed as JSON.
type command struct {
	help  fs.CommandHelp
	args  []string
	alone string // option that stands in for the last argument
	more  bool   // the last argument may come several times
	run   func(f *Fs, ctx context.Context, arg []string, opt map[string]string) (any, error)
}

// commands are in the order of the manual.
var commands = []command{{
	help: fs.CommandHelp{
		Name:  "info",
		Short: "Show what a host knows of a device or image.",
		Long: `Size, sector sizes, model, serial number, what is built on it, where it is
mounted, whether it is thin or rotational, and how it discards. What is on it is
looked at: partition table, file system, and its identities, any of which may be
the value of the option expect_id.

` + "```console" + `
rclone backend info blockdev:host/dev sda
` + "```",
	},
	args: []string{"name"},
	run:  (*Fs).info,
}, {
	help: fs.CommandHelp{
		Name:  "diff",
		Short: "Show what a copy would move, without writing anything.",
		Long: `The first argument is the source, named below the remote. The second one is the
target that the copy would write to, named as a whole remote of this backend, or
as a local path. Both are read on their hosts and compared as in a copy, but no
data crosses and nothing is written.

What ` + "`copyto blockdev:host/dev/sda blockdev:standby/dev/sdb`" + ` would do is told by

` + "```console" + `
rclone backend diff blockdev:host/dev sda blockdev:standby/dev/sdb
` + "```" + `

Of the bytes scanned, "changed" would be moved and written, "zeroed" would be made
zero, and "equal" be left alone. With --ignore-size only the part common to both
is compared.

The option map draws the result: what is close on the device is close in the
picture. With ranges, the result has the ranges that differ, 10000 at most. Where
there are more, they are told in larger units ("rangeUnit", in bytes), so that they
cover all that differs.

` + "```console" + `
rclone backend diff blockdev:host/dev sda blockdev:standby/dev/sdb -o map=sda.png
` + "```",
		Opts: map[string]string{
			"map":    "Picture to write, named *.png or *.svg",
			"layout": "Order of its cells: hilbert (default) or rows",
			"ranges": "true adds the ranges that differ",
		},
	},
	args: []string{"source name", "target remote"},
	run:  (*Fs).diff,
}, {
	help: fs.CommandHelp{
		Name:  "verify",
		Short: "Compare two devices or images without moving their data.",
		Long: `Each is read completely on its own host, and the roots of both are compared. The
first argument is named below the remote, the second one as a whole remote of this
backend, or as a local path. Different content or sizes are an error. With
--ignore-size only the part common to both is compared.

` + "```console" + `
rclone backend verify blockdev:host/dev sda blockdev:standby/dev/sdb
` + "```" + `

With a receipt there is no second argument: the device is compared with what the
receipt says of the copy, and each range that differs is named, to the MiB.

` + "```console" + `
rclone backend verify -o receipt=sda.json blockdev:host/dev sda
` + "```",
		Opts: map[string]string{"receipt": "File of the receipt, beside which is its manifest"},
	},
	args:  []string{"name", "other remote"},
	alone: "receipt",
	run:   (*Fs).verify,
}, {
	help: fs.CommandHelp{
		Name:  "receipts",
		Short: "List the receipts of a device, show one, or compare two.",
		Long: `Receipts are what copies with the option receipt leave behind. Without further
options all of the device are listed, the oldest first, each with how much has
changed since the one before. No host is asked. With show the whole of one is
printed; with from and to the ranges that have changed between two, to the MiB.

` + "```console" + `
rclone backend receipts blockdev:host/dev sda -o dir=/var/lib/receipts
rclone backend receipts blockdev:host/dev sda -o from=monday.json -o to=friday.json
` + "```",
		Opts: map[string]string{
			"dir":  "Directory of the receipts, that of the option receipt by default",
			"show": "File to show, in that directory or with a path",
			"from": "File of the earlier one to compare",
			"to":   "File of the later one to compare",
		},
	},
	args: []string{"name"},
	run:  (*Fs).receipts,
}, deltaCommand, applyCommand, {
	help: fs.CommandHelp{
		Name:  "root",
		Short: "Compute the root of a device or image on its host.",
		Long: `The root is a digest of the whole content: SHA-256 over block size, size and the
digests of all extents of 1 MiB. It is the one that copies compare at their end,
and is computed faster than a SHA-256 sum. Equal content has equal roots.

` + "```console" + `
rclone backend root blockdev:host/dev sda
` + "```",
	},
	args: []string{"name"},
	run:  (*Fs).rootOf,
}, {
	help: fs.CommandHelp{
		Name:  "unpin",
		Short: "Forget which device was written under a name.",
		Long: `With the option pin_ids a device that is not the one written before is refused.
After this, the next copy takes the device that is there, and remembers that. No
host is asked. What was remembered is printed.

` + "```console" + `
rclone backend unpin blockdev:host/dev sda
` + "```",
	},
	args: []string{"name"},
	run:  (*Fs).unpin,
}, undoCommand, recoverCommand, {
	help: fs.CommandHelp{
		Name:  "snapshots",
		Short: "List the snapshots that were taken on the host, or remove one.",
		Long: `Snapshots that the option snapshot has taken are removed by themselves. This lists
those that are there: "in use" by a transfer, "waiting" for rclone to come back,
or "left" by a helper that was killed, which the next one removes. Snapshots
that others have made are never listed or touched.

` + "```console" + `
rclone backend snapshots blockdev:host
rclone backend snapshots blockdev:host -o remove=3f9a01c2
` + "```",
		Opts: map[string]string{
			"remove": "The id of a snapshot to remove, or \"all\" that are not in use",
		},
	},
	run: (*Fs).snapshots,
}, {
	help: fs.CommandHelp{
		Name:  "deploy",
		Short: "Put the helper on the host.",
		Long: `Any other use of the host does so too when it is needed. The result tells where
the helper is, and whether it was stored now or found there.

` + "```console" + `
rclone backend deploy blockdev:host
` + "```",
	},
	run: (*Fs).deploy,
}, {
	help: fs.CommandHelp{
		Name:  "undeploy",
		Short: "Remove the helpers of all releases from the host.",
		Long: `Only helpers that were uploaded are removed, not one that helper_path names.

` + "```console" + `
rclone backend undeploy blockdev:host
` + "```",
	},
	run: (*Fs).undeploy,
}, {
	help: fs.CommandHelp{
		Name:  "ping",
		Short: "Measure the way to the helper on the host.",
		Long: `Shows the release of the helper, how long it took to reach it, the round trip, and
the throughput of one stream from the host, with data that cannot be compressed.

` + "```console" + `
rclone backend ping blockdev:host -o size=64Mi
` + "```",
		Opts: map[string]string{
			"size":  "Bytes to fetch for the throughput, 16Mi by default, 0 for none",
			"count": "Round trips to measure, 10 by default",
		},
	},
	run: (*Fs).ping,
}}

// commandHelp is the help of all commands, for the registration.
func commandHelp() (help []fs.CommandHelp) {
	for _, c := range commands {
		help = append(help, c.help)
	}
	return help
}

// Command runs a backend command.
func (f *Fs) Command(ctx context.Context, name string, arg []string, opt map[string]string) (any, error) {
	i := slices.IndexFunc(commands, func(c command) bool { return c.help.Name == name })
	if i < 0 {
		return nil, fs.ErrorCommandNotFound
	}
	c := commands[i]
	if _, ok := opt[c.alone]; ok && c.alone != "" {
		c.args = c.args[:len(c.args)-1]
	}
	if len(arg) != len(c.args) && !(c.more && len(arg) > len(c.args)) {
		return nil, fmt.Errorf("takes %s after the remote, not %d: see rclone backend help %s", arguments(c.args), len(arg), Name)
	}
	for key := range opt {
		if _, ok := c.help.Opts[key]; !ok {
			return nil, fmt.Errorf("does not know the option %q: it has %s", key, oneOf(slices.Sorted(maps.Keys(c.help.Opts)), "none"))
		}
	}
	return c.run(f, ctx, arg, opt)
}

// arguments says how many of which arguments are wanted.
func arguments(names []string) string {
	if len(names) == 0 {
		return "no arguments"
	}
	return fmt.Sprintf("%d (%s)", len(names), strings.Join(names, ", "))
}

func oneOf(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}

var _ fs.Commander = (*Fs)(nil)
