package blocksync

import (
	"github.com/spf13/cobra"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
)

// complete offers the hosts of the ssh config files. Paths of this machine are
// completed by the shell.
func complete(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	known, err := host.Known(host.Config{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var offered []string
	for _, name := range known {
		if name != host.Localhost {
			offered = append(offered, name+":/")
		}
	}
	return offered, cobra.ShellCompDirectiveNoSpace
}
