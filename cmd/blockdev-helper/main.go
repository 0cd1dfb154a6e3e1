// Command blockdev-helper runs on the host that has the devices. It serves
// requests on its standard input and output, usually started by rclone over SSH,
// and is a tool of its own on a system that has nothing else. It never opens a
// network connection.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/tool"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const usage = `usage:
  blockdev-helper serve [--allow PATH]... [--read-only] [--allow-snapshots] [--allow-hooks]
  blockdev-helper version
  blockdev-helper help [COMMAND]

serve speaks the blockdev protocol on standard input and output. --allow limits
it to a path and what is below; it may be repeated. A helper with --allow or
--read-only takes snapshots only with --allow-snapshots, and runs hooks and other
programs that the client names only with --allow-hooks. As an SSH forced command, in
authorized_keys on one line:
  command="blockdev-helper serve --allow /dev/vg0 --read-only",restrict ssh-ed25519 ...

The other commands read devices, images and manifests, and never write to a device:
`

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run is the program: 0 is success, 1 a failure, 2 wrong usage. The commands of package
// tool have exit codes of their own.
func run(args []string, stdin, stdout *os.File, stderr io.Writer) int {
	if len(args) == 0 {
		args = []string{"help"}
	}
	switch args[0] {
	case "version", "--version":
		fmt.Fprintf(stdout, "blockdev-helper %s protocol %d %s/%s\n", helper.Version(), wire.Version, runtime.GOOS, runtime.GOARCH)
		return 0
	case "help", "--help", "-h":
		return help(args[1:], stdout, stderr)
	case "serve":
		return serve(args[1:], stdin, stdout, stderr)
	}
	if code, known := tool.Run(context.Background(), args, tool.Std{In: stdin, Out: stdout, Err: stderr}); known {
		return code
	}
	fmt.Fprintf(stderr, "blockdev-helper: unknown command %q\n%s%s", args[0], usage, tool.Commands())
	return 2
}

// help prints the help of one command, or the list of all.
func help(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] == "serve" || args[0] == "version" {
		fmt.Fprint(stdout, usage+tool.Commands())
		return 0
	}
	text, ok := tool.Help(args[0])
	if !ok {
		fmt.Fprintf(stderr, "blockdev-helper: unknown command %q\n", args[0])
		return 2
	}
	fmt.Fprint(stdout, text)
	return 0
}
