package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/rclone-blockdev/rclone-blockdev/helper"
)

// gcPercent is half of Go's default: what is held is buffers without pointers, which cost
// nothing to look through, and several helpers may run at once.
const gcPercent = 50

func serve(args []string, stdin, stdout *os.File, stderr io.Writer) int {
	policy, err := parsePolicy(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
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
	policy := helper.Policy{Alone: true}
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&policy.ReadOnly, "read-only", false, "refuse everything that writes")
	flags.BoolVar(&policy.AllowSnapshots, "allow-snapshots", false, "let a limited helper take snapshots and freeze file systems")
	flags.BoolVar(&policy.AllowHooks, "allow-hooks", false, "let a limited helper run programs that the client names, so that it may do anything")
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
