// Command blockdev-helper runs on the host that has the devices and serves
// requests on its standard input and output, usually started by rclone over
// SSH. It never opens a network connection.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const usage = `usage:
  blockdev-helper serve [--allow PATH]... [--read-only] [--allow-snapshots] [--allow-hooks]
  blockdev-helper version

serve speaks the blockdev protocol on standard input and output. --allow limits
it to a path and what is below; it may be repeated. A helper with --allow or
--read-only takes snapshots only with --allow-snapshots, and runs hooks and other
programs that the client names only with --allow-hooks. As an SSH forced command, in
authorized_keys on one line:
  command="blockdev-helper serve --allow /dev/vg0 --read-only",restrict ssh-ed25519 ...
`

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is the program: 0 is success, 1 a failure, 2 wrong usage.
func run(args []string, stdin, stdout *os.File, stderr io.Writer) int {
	if len(args) == 0 {
		args = []string{"help"}
	}
	switch args[0] {
	case "version", "--version":
		fmt.Fprintf(stdout, "blockdev-helper %s protocol %d %s/%s\n", helper.Version(), wire.Version, runtime.GOOS, runtime.GOARCH)
		return 0
	case "help", "--help", "-h":
		fmt.Fprint(stdout, usage)
		return 0
	case "serve":
		return serve(args[1:], stdin, stdout, stderr)
	}
	fmt.Fprintf(stderr, "blockdev-helper: unknown command %q\n%s", args[0], usage)
	return 2
}
