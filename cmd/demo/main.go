// Command demo shows what the project does, on a machine that has nothing but
// Go: it builds the programs, copies a disk image, changes it, copies it again,
// pulls it back, compares, and prints what each step read and moved.
//
// It runs the built rclone-blockdev and imports nothing of rclone, so that
// starting it is quick. It writes to image files of its own and to nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: 0 is success, 1 a failure, 2 wrong usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	d := demo{out: stdout, size: 1 << 30}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&d.dir, "dir", "", "local `directory` for the images, which need 3 times the size at most;\nblank means a new temporary one")
	flags.StringVar(&d.ssh, "ssh", "", "copy to a `directory` on a host, user@host:/path or user@host:port/path;\nblank means this machine, without SSH")
	flags.Var(&d.size, "size", "`size` of the disk image, with suffix K, M or G")
	flags.StringVar(&d.bin, "bin", "", "`directory` with finished programs; blank means to build them into bin/")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "demo: unexpected argument %q\n", flags.Arg(0))
		return 2
	}
	err := d.show(ctx)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		err = errors.New("interrupted; the images are removed")
	}
	fmt.Fprintln(stderr, "demo:", err)
	return 1
}
