package main

import (
	"github.com/rclone/rclone/cmd"
	"github.com/spf13/cobra"
)

// completionFiles are where the scripts go when nothing else is said: not where
// those of rclone are.
var completionFiles = map[string]string{
	"bash": "/etc/bash_completion.d/rclone-blockdev",
	"zsh":  "/usr/share/zsh/vendor-completions/_rclone-blockdev",
	"fish": "/etc/fish/completions/rclone-blockdev.fish",
}

// nameCompletions makes the scripts of the command completion complete the name of
// this program.
func nameCompletions() {
	for _, c := range cmd.Root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		for _, shell := range c.Commands() {
			run := shell.Run
			shell.Run = func(command *cobra.Command, args []string) {
				cmd.Root.Use = "rclone-blockdev"
				if file, ok := completionFiles[command.Name()]; ok && len(args) == 0 {
					args = []string{file}
				}
				run(command, args)
			}
		}
	}
}
