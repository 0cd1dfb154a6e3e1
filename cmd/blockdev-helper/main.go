// Command blockdev-helper runs on the host that has the devices and serves
// requests on its standard input and output, usually started by rclone over
// SSH. It never opens a network connection.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

const usage = `usage:
  blockdev-helper serve [--allow PATH]... [--read-only]
  blockdev-helper version

serve speaks the blockdev protocol on standard input and output. --allow limits
it to a path and what is below; it may be repeated. As an SSH forced command, in
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

func serve(args []string, stdin, stdout *os.File, stderr io.Writer) int {
	policy, err := parsePolicy(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	stream, err := openStream(stdin, stdout)
	if err == nil {
		err = helper.Serve(context.Background(), stream, policy)
	}
	if err != nil {
		fmt.Fprintln(stderr, "blockdev-helper:", err)
		return 1
	}
	return 0
}

// parsePolicy reads the flags of serve. It reports errors to stderr itself.
func parsePolicy(args []string, stderr io.Writer) (helper.Policy, error) {
	var policy helper.Policy
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&policy.ReadOnly, "read-only", false, "refuse everything that writes")
	flags.Func("allow", "allow only this absolute `path` and what is below; may be repeated", func(path string) error {
		if !filepath.IsAbs(path) {
			return errors.New("not an absolute path")
		}
		policy.Allow = append(policy.Allow, filepath.Clean(path))
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return policy, err
	}
	if flags.NArg() > 0 {
		// A path without --allow must not widen what a forced command permits.
		fmt.Fprintf(stderr, "blockdev-helper serve: unexpected argument %q\n%s", flags.Arg(0), usage)
		return policy, errors.New("unexpected argument")
	}
	return policy, nil
}
