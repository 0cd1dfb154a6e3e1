// Command rclone-blockdev is rclone with the blockdev backend: all its backends
// and commands, and the remotes "blockdev:" and "local:" without configuration.
package main

import (
	_ "github.com/rclone/rclone/backend/all"
	"github.com/rclone/rclone/cmd"
	_ "github.com/rclone/rclone/cmd/all"
	_ "github.com/rclone/rclone/lib/plugin"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
)

func main() {
	blockdev.DefaultRemote("local", "local")
	cmd.Main()
}
