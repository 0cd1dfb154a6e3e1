package blocksync

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rclone/rclone/cmd"
	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config"
	"github.com/rclone/rclone/lib/terminal"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
)

// linesEvery is how often the progress is printed where nobody watches.
const linesEvery = 5 * time.Second

const help = `Bring a block device or disk image to the content of another one, here or on a
host that SSH reaches, by moving only the blocks that differ.

SRC and DST are
  /path, ./path           a device or image of this machine
  [user@]host:/path       on a host; also ssh://[user@]host[:port]/path
  remote:path             any rclone remote, as copyto takes it
A configured remote wins over a host of the same name. At least one of the two
is a device or image; the other may be an object of any remote, which is then
moved as a whole.

DST must exist and be as large as SRC. --truncate creates an image file, or
gives it the size of SRC; a device is never created and never changes its size.
The target is always compared and updated, whatever times and sizes say. What is
in use is refused, as are names that do not exist.

On a terminal it asks, once, before it overwrites a device with something known
on it that SRC does not have.

Flags of rclone that matter here:
  -n, --dry-run       write nothing, and tell what would be moved
      --ignore-size   sync what is common to both when the sizes differ
  -q, --quiet         print errors only
      --bwlimit       limit what crosses the network

Exit codes: 0 the target has the content of the source and is durable (with
--dry-run: nothing speaks against the copy); 1 other errors, among them a
difference found by --verify; 2 wrong usage; 4 SRC or DST does not exist;
5 connections failed; 6 refused, or a read or write failed, also where
--read-errors has gone on after it.`

const examples = `  # Push an image to a device of a host, then again after it has changed
  rclone-blockdev blocksync disk.img root@vmhost:/dev/vg0/vm

  # Pull a device into a new sparse image
  rclone-blockdev blocksync --truncate vmhost:/dev/vg0/vm backup/vm.img

  # What would that move, and how long would it take?
  rclone-blockdev blocksync --dry-run vmhost:/dev/vg0/vm backup/vm.img

  # Between two hosts, as root by sudo on both, and compare both at the end
  rclone-blockdev blocksync --sudo --verify a:/dev/sdb b:/dev/sdb

  # For a program
  rclone-blockdev blocksync --json disk.img vmhost:/dev/vg0/vm`

// Command is the command blocksync.
func Command() *cobra.Command {
	opt := Options{BlockSize: block.DefaultSize}
	var compress host.Compress
	var readErrors blockdev.ReadErrors
	command := &cobra.Command{
		Use:           "blocksync [flags] SRC DST",
		Short:         "Sync a block device or image with another one by changed blocks.",
		Long:          help,
		Example:       examples,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	addFlags(command.Flags(), &opt, &compress, &readErrors)
	completeBy(command)
	command.RunE = func(command *cobra.Command, args []string) error {
		cmd.CheckArgs(2, 2, command, args)
		if command.Flags().Changed("compress") {
			opt.Compress = &compress
		}
		if command.Flags().Changed("read-errors") {
			opt.ReadErrors = &readErrors
		}
		return run(command, opt, args)
	}
	return command
}

func addFlags(flags *pflag.FlagSet, opt *Options, compress *host.Compress, readErrors *blockdev.ReadErrors) {
	flags.BoolVar(&opt.Truncate, "truncate", false, "create the image DST, or resize it to SRC")
	flags.Var((*bytesFlag)(&opt.BlockSize), "block-size", "unit to compare, 512 to 1Mi")
	flags.BoolVar(&opt.Verify, "verify", false, "at the end read and compare both again")
	flags.StringVar(&opt.Force, "force", "", "overwrite `DEVICE` although it is in use")
	flags.IntVar(&opt.Streams, "streams", 0, "parallel streams (default 4)")
	flags.BoolVar(&opt.Sudo, "sudo", false, "be root by sudo on the hosts of both ends")
	flags.Var(compress, "compress", "on the wire")
	flags.Var(readErrors, "read-errors", "where SRC cannot be read")
	flags.BoolVar(&opt.JSON, "json", false, "print events as JSON, one on each line")
	flags.StringVar(&opt.Receipt, "receipt", "", "leave a receipt of the copy in `FILE`")
	flags.StringVar(&opt.Map, "map", "", "draw what differs into `FILE`.png or .svg")
	flags.StringVar(&opt.MapLayout, "map-layout", "", "order of its cells: hilbert or rows")
	flags.BoolVar(&opt.Yes, "yes", false, "overwrite a device without asking")
}

// bytesFlag is a size of which a bare number is bytes, as for dd; to rclone it would be
// KiB, which is no use for blocks.
type bytesFlag fs.SizeSuffix

func (f *bytesFlag) String() string { return fs.SizeSuffix(*f).String() }

func (f *bytesFlag) Type() string { return "SIZE" }

func (f *bytesFlag) Set(s string) error {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		*f = bytesFlag(n)
		return nil
	}
	return (*fs.SizeSuffix)(f).Set(s)
}

// run makes a job of what was typed. Wrong usage is an error of its own: rclone ends
// with 2 for what its root command returns.
func run(command *cobra.Command, opt Options, args []string) error {
	ctx := context.Background()
	if !command.Flags().Changed("config") {
		loadConfig()
	}
	j := &job{opt: opt, ci: fs.GetConfig(ctx), typed: [2]string(args)}
	if err := j.check(); err != nil {
		if quiet(j.ci) {
			fs.Errorf(nil, "%v", err) // rclone reports it as a notice
		}
		return err
	}
	j.view = j.newView(linesInterval(command.Flags()))
	if isTerminal(os.Stdin) && isTerminal(os.Stderr) {
		j.ask = func(question string) (bool, error) { return ask(os.Stderr, os.Stdin, question) }
	}
	cmd.Run(false, false, command, func() error {
		err := j.run(ctx)
		if err != nil && quiet(j.ci) {
			fs.Errorf(nil, "%v", err) // here too
		}
		return err
	})
	return nil
}

// loadConfig loads rclone's configuration without a notice that there is none: no one
// who names two disks needs one.
func loadConfig() {
	path := config.GetConfigPath()
	if _, err := os.Stat(path); path == "" || !errors.Is(err, os.ErrNotExist) {
		return
	}
	if config.SetConfigPath("") == nil {
		config.LoadedData()
	}
	_ = config.SetConfigPath(path) // it was accepted before
	_ = os.Setenv("RCLONE_CONFIG_DIR", filepath.Dir(path))
}

// linesInterval is what rclone's flag --stats says when it was given: it does the same for other commands. In a log of
// hours a line every five seconds is too much.
func linesInterval(flags *pflag.FlagSet) time.Duration {
	if flag := flags.Lookup("stats"); flag != nil && flag.Changed {
		if interval, err := time.ParseDuration(flag.Value.String()); err == nil {
			return interval
		}
	}
	return linesEvery
}

// newView chooses how to show what goes on, as lines one each interval.
func (j *job) newView(interval time.Duration) view {
	switch {
	case j.opt.JSON:
		return &events{out: os.Stdout, err: os.Stderr}
	case quiet(j.ci):
		return silent{}
	case j.ci.Progress: // rclone's own, of all transfers
		return &lines{out: os.Stdout, err: os.Stderr}
	case isTerminal(os.Stderr):
		return &bar{out: os.Stdout, err: os.Stderr}
	}
	return &lines{out: os.Stdout, err: os.Stderr, interval: interval}
}

func isTerminal(f *os.File) bool { return terminal.IsTerminal(int(f.Fd())) }

// ask takes y and yes for yes, and everything else for no.
func ask(w io.Writer, r io.Reader, question string) (bool, error) {
	fmt.Fprintf(w, "%s [y/N] ", question)
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}
