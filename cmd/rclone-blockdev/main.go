// Command rclone-blockdev is rclone with the blockdev backend: all its backends
// and commands, the command blocksync, and the remotes "blockdev:" and "local:"
// without configuration.
package main

import (
	"context"
	"os"
	"runtime/debug"
	"slices"

	_ "github.com/rclone/rclone/backend/all"
	"github.com/rclone/rclone/cmd"
	_ "github.com/rclone/rclone/cmd/all"
	"github.com/rclone/rclone/fs/rc"
	_ "github.com/rclone/rclone/lib/plugin"
	"github.com/spf13/cobra"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/backend/blocksync"
)

// comparing are the commands that exist to compare. They ask for sums only where
// they are offered, and would go by the size alone.
var comparing = []string{"check", "checksum", "cryptcheck", "hashsum", "lsf", "lsjson"}

// comparingCalls are those of the remote control.
var comparingCalls = []string{"operations/check"}

// gcPercent is less than Go's default: SSH throws away memory for every packet, which would
// make up half of what a transfer occupies.
const gcPercent = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	blockdev.DefaultRemote("local", "local")
	cmd.Root.AddCommand(blocksync.Command())
	for _, c := range cmd.Root.Commands() {
		if c.Name() == "selfupdate" { // it would put the official rclone in the place of this program
			cmd.Root.RemoveCommand(c)
		}
		if slices.Contains(comparing, c.Name()) {
			c.PreRun = func(*cobra.Command, []string) { blockdev.OfferHashes() }
		}
	}
	for _, path := range comparingCalls {
		call := rc.Calls.Get(path)
		run := call.Fn
		call.Fn = func(ctx context.Context, in rc.Params) (rc.Params, error) {
			defer blockdev.OfferHashes()()
			return run(ctx, in)
		}
	}
	nameCompletions()
	tellVersion()
	cmd.Main()
}
