// Package tool is the helper as a program for people: what it tells of a device, and
// what it compares, on a machine that has nothing else, such as a rescue system. It
// reads and never writes to a device.
//
// Reading and hashing is that of package delta, so a root or digest made here is the
// one that copies compare.
package tool

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
)

// Exit codes of all commands here, as cmp and diff have them.
const (
	ExitOK      = 0 // done; equal
	ExitDiffers = 1
	ExitTrouble = 2 // wrong usage, or an error
)

// Std is what a program has open when it starts.
type Std struct {
	In       *os.File
	Out, Err io.Writer
}

// command is one command and its help.
type command struct {
	name, args  string
	count       int    // of arguments
	flags       string // names of those it has, beside --json and --quiet
	short, long string
	examples    string
	run         func(context.Context, *call) error
}

// call is one run of a command.
type call struct {
	Std
	*command
	arg []string

	blockSize int // 0 when it was not given
	direct    device.Direct
	output    string
	json      bool
	quiet     bool

	view view
}

// errDiffers is the end of a comparison that found what it looked for: no trouble.
var errDiffers = errors.New("they differ")

// Commands is the list of commands for a help text.
func Commands() string {
	var b strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&b, "  blockdev-helper %s [flags] %s\n      %s\n", c.name, c.args, c.short)
	}
	return b.String()
}

// Help is the help of a command; ok is false when there is none of that name.
func Help(name string) (text string, ok bool) {
	for i := range commands {
		if c := &commands[i]; c.name == name {
			return c.help(), true
		}
	}
	return "", false
}

// Run runs the command that args begin with. known is false when there is none.
func Run(ctx context.Context, args []string, std Std) (code int, known bool) {
	for i := range commands {
		if c := &commands[i]; c.name == args[0] {
			return c.start(ctx, args[1:], std), true
		}
	}
	return ExitTrouble, false
}

// start reads the arguments and runs the command until it ends or a signal comes.
func (c *command) start(ctx context.Context, args []string, std Std) int {
	call := &call{Std: std, command: c}
	switch err := call.parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(std.Out, c.help())
		return ExitOK
	case err != nil:
		fmt.Fprintf(std.Err, "blockdev-helper %s: %v\nusage: blockdev-helper %s [flags] %s\n", c.name, err, c.name, c.args)
		return ExitTrouble
	}
	call.view = call.newView()
	ctx, stop := interruptible(ctx)
	defer stop()
	err := c.run(ctx, call)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, errDiffers):
		return ExitDiffers
	}
	_ = call.finish(&result{}, err) // what failed before there was anything to show
	fmt.Fprintf(std.Err, "blockdev-helper %s: %v\n", c.name, err)
	var sig *signalError
	if errors.As(err, &sig) {
		return sig.code()
	}
	return ExitTrouble
}

// flagSet are the flags of the command.
func (c *call) flagSet() *flag.FlagSet {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is wrong is said once, by start
	flags.Usage = func() {}
	flags.BoolVar(&c.json, "json", false, "print events as JSON, one on each line")
	for _, name := range []string{"q", "quiet"} {
		flags.BoolVar(&c.quiet, name, false, "print errors only")
	}
	for name := range strings.FieldsSeq(c.command.flags) {
		switch name {
		case "block-size":
			flags.Func(name, "unit to compare, a power of two from 512 to 1Mi (default 4Ki)", func(s string) (err error) {
				c.blockSize, err = parseBlockSize(s)
				return err
			})
		case "direct":
			flags.Func(name, "read devices past the page cache: auto, on or off (default auto)", func(s string) (err error) {
				c.direct, err = parseDirect(s)
				return err
			})
		case "o":
			flags.StringVar(&c.output, name, "", "file to write (default standard output)")
		}
	}
	return flags
}

// parse reads flags and arguments in any order.
func (c *call) parse(args []string) error {
	c.direct = device.DirectAuto
	flags := c.flagSet()
	for len(args) > 0 {
		if err := flags.Parse(args); err != nil {
			return err
		}
		rest := flags.Args()
		if done := len(args) - len(rest); done > 0 && args[done-1] == "--" || len(rest) == 0 {
			c.arg = append(c.arg, rest...)
			break
		}
		c.arg, args = append(c.arg, rest[0]), rest[1:]
	}
	if len(c.arg) != c.count {
		return fmt.Errorf("%d arguments, not %d", len(c.arg), c.count)
	}
	if c.json && c.quiet {
		return errors.New("--json prints events and --quiet nothing: use one of them")
	}
	return nil
}

// parseBlockSize reads a number of bytes, as in 4096, 64Ki or 1Mi.
func parseBlockSize(s string) (int, error) {
	digits := strings.IndexFunc(s+" ", func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.Atoi(s[:digits])
	shift, ok := map[string]int{"": 0, "k": 10, "ki": 10, "m": 20, "mi": 20}[strings.TrimSuffix(strings.ToLower(s[digits:]), "b")]
	if err != nil || !ok || n > block.MaxSize {
		return 0, fmt.Errorf("%q is no number of bytes up to 1Mi, as in 64Ki", s)
	}
	n <<= shift
	if err := block.CheckSize(n); err != nil {
		return 0, fmt.Errorf("%q: must be a power of two from 512 to 1Mi", s)
	}
	return n, nil
}

func parseDirect(s string) (device.Direct, error) {
	for mode, name := range map[device.Direct]string{device.DirectAuto: "auto", device.DirectOn: "on", device.DirectOff: "off"} {
		if s == name {
			return mode, nil
		}
	}
	return 0, fmt.Errorf("%q is none of auto, on, off", s)
}
