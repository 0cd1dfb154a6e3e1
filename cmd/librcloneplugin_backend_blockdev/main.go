// Command librcloneplugin_backend_blockdev is the backend blockdev, and with it
// the remote "blockdev:", as a plugin for rclone:
//
//	go build -buildmode=plugin ./cmd/librcloneplugin_backend_blockdev
//
// docs/plugin.md says which rclone can load it.
package main

import (
	"fmt"
	"os"

	_ "github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
)

const usage = `This is a plugin for rclone, not a program. Build it with
  go build -buildmode=plugin ./cmd/librcloneplugin_backend_blockdev
and set RCLONE_PLUGIN_PATH to the directory of the .so file. docs/plugin.md says
which rclone can load it; rclone-blockdev needs no plugin.
`

// main does not run in a plugin.
func main() {
	fmt.Fprint(os.Stderr, usage)
	os.Exit(2)
}
