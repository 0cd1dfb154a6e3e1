package tool

import (
	"flag"
	"fmt"
	"strings"
)

// commands are in the order of the manual, docs/helper.md.
var commands = []command{{
	name: "info", args: "PATH", count: 1, run: info,
	short: "what is known of a device, an image or a manifest, what is on it and who holds it",
	long: `Tells what the system knows of PATH: sizes, sectors, model, serial number and other
identities, what is on it (partition table, file system), where it is mounted, what
is built on it, and why writing to it would be refused. Of a manifest it tells what
it was made of.`,
	examples: `  blockdev-helper info /dev/sda
  blockdev-helper info --json /dev/vg0/mail`,
}, {
	name: "root", args: "PATH", count: 1, run: root, flags: "block-size direct",
	short: "read a device or image and print its root, one sum for all of it",
	long: `Reads all of PATH and prints its root: a SHA-256 sum over those of its blocks. Two
with the same root, size and block size have the same content, wherever they are. It
is what rclone's "backend root" prints, and not the SHA-256 of the content. Of a
manifest it is known without reading the device.`,
	examples: `  blockdev-helper root /dev/sda
  blockdev-helper root disk.img`,
}, {
	name: "digest", args: "PATH", count: 1, run: digest, flags: "o block-size direct",
	short: "write a manifest: the digest of each MiB, to compare with later or elsewhere",
	long: `Reads all of PATH and writes a manifest: 32 bytes for each MiB, and which device it
was. The manifest goes to standard output, or with -o to a file, which is replaced
only when it is a manifest too. Holes and zeros cost nothing.`,
	examples: `  blockdev-helper digest -o sda.manifest /dev/sda
  ssh root@other blockdev-helper digest /dev/sda | blockdev-helper compare - /dev/sdb`,
}, {
	name: "compare", args: "A B", count: 2, run: compare, flags: "block-size direct",
	short: "compare two devices, images or manifests and name the ranges that differ",
	long: `Each of A and B is a device, an image, a manifest, or a receipt, which is a file named
.json with its manifest beside it; - is a manifest on standard input. Every range of
bytes that differs is named: to the block when both can be read, to the MiB when one
is a manifest. Where one is longer, the rest differs.`,
	examples: `  blockdev-helper compare /dev/sda disk.img
  blockdev-helper compare monday.manifest /dev/sda
  blockdev-helper compare monday.manifest tuesday.manifest`,
}, {
	name: "verify", args: "PATH MANIFEST", count: 2, run: verify, flags: "direct",
	short: "check a device or image against a manifest",
	long: `Reads all of PATH and compares it with what MANIFEST says, in the blocks that it was
made with. As compare, but the second one must be a manifest or a receipt, and there
is a notice when it is of another device.`,
	examples: `  blockdev-helper verify /dev/sda sda.manifest
  blockdev-helper verify /dev/sda vm.json`,
}}

const exits = `Exit codes: 0 done, and for compare and verify: they are equal; 1 they differ;
2 wrong usage, or an error; 130 and 143 ended by a signal.
`

// help is the whole help of a command.
func (c *command) help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: blockdev-helper %s [flags] %s\n\n%s\n\nFlags:\n", c.name, c.args, c.long)
	(&call{command: c}).flagSet().VisitAll(func(f *flag.Flag) {
		dashes := "--"
		if len(f.Name) == 1 {
			dashes = "-"
		}
		value := map[string]string{"block-size": " SIZE", "direct": " MODE", "o": " FILE"}[f.Name]
		fmt.Fprintf(&b, "  %-18s %s\n", dashes+f.Name+value, f.Usage)
	})
	fmt.Fprintf(&b, "\nExamples:\n%s\n\n%s", c.examples, exits)
	return b.String()
}
