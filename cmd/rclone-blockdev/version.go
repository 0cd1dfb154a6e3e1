package main

import (
	"fmt"
	"os"

	"github.com/rclone/rclone/cmd"
	"github.com/spf13/cobra"

	"github.com/rclone-blockdev/rclone-blockdev/helper"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// tellVersion adds a line of ours to what "version" and --version print. The first line stays that of rclone, since
// programs read it.
func tellVersion() {
	tell := func() { fmt.Printf("- blockdev/version: %s (protocol %d)\n", helper.Version(), wire.Version) }
	for _, c := range cmd.Root.Commands() {
		if c.Name() != "version" {
			continue
		}
		run := c.RunE
		c.RunE = func(command *cobra.Command, args []string) error {
			err := run(command, args)
			flags := command.Flags()
			if err == nil && !flags.Changed("check") && !flags.Changed("deps") { // these print something else
				tell()
			}
			return err
		}
	}
	cmd.Root.PreRun = func(command *cobra.Command, _ []string) {
		if command.Flags().Changed("version") { // what runs next would print the rest and end the program
			cmd.ShowVersion()
			tell()
			os.Exit(0)
		}
	}
}
