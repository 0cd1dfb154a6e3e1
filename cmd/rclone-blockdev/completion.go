package main

import (
	"strings"

	"github.com/rclone/rclone/cmd"
	"github.com/spf13/cobra"
)

// completionFiles are where the scripts of rclone go when nothing else is said, and
// those of this program instead.
var completionFiles = map[string][2]string{
	"bash": {"/etc/bash_completion.d/rclone", "/etc/bash_completion.d/rclone-blockdev"},
	"zsh":  {"/usr/share/zsh/vendor-completions/_rclone", "/usr/share/zsh/vendor-completions/_rclone-blockdev"},
	"fish": {"/etc/fish/completions/rclone.fish", "/etc/fish/completions/rclone-blockdev.fish"},
}

// nameCompletions makes the scripts of the command completion complete the name of
// this program.
func nameCompletions() {
	for _, c := range cmd.Root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		for _, shell := range c.Commands() {
			run, files := shell.Run, completionFiles[shell.Name()]
			if files[0] != "" {
				shell.Long = strings.NewReplacer("rclone completion", "rclone-blockdev completion", files[0], files[1]).Replace(shell.Long)
			}
			shell.Run = func(command *cobra.Command, args []string) {
				cmd.Root.Use = "rclone-blockdev"
				if files[1] != "" && len(args) == 0 {
					args = []string{files[1]}
				}
				run(command, args)
			}
		}
	}
}
