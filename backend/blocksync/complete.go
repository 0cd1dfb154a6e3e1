package blocksync

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rclone/rclone/fs/config"
	"github.com/spf13/cobra"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
)

// remoteTime is how long a completion may ask a host.
const remoteTime = 2 * time.Second

// completeBy sets what the shell is told of the arguments, when the command line is
// parsed: before that, rclone sets its own for all commands.
func completeBy(command *cobra.Command) {
	cobra.OnInitialize(func() {
		others := command.ValidArgsFunction
		command.ValidArgsFunction = func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 1 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			name, rest := cutHost(typed)
			remote, _, _ := strings.Cut(name, ",")
			switch {
			case strings.HasPrefix(typed, ":"), name != "" && configured(remote):
				return others(c, args, typed)
			case name != "" && strings.HasPrefix(rest, "/"):
				return completions(remotePaths(name, rest))
			case name == "":
				return completions(append(localPaths(typed), names(typed)...))
			}
			return nil, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
	})
}

// completions are what typed may become. What goes on gets no blank behind it.
func completions(list []string) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveNoFileComp
	if slices.ContainsFunc(list, func(s string) bool { return strings.HasSuffix(s, "/") || strings.HasSuffix(s, ":") }) {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return list, directive
}

// names are the hosts and remotes that typed may be the beginning of, with a colon,
// as scp and rsync complete them.
func names(typed string) (list []string) {
	if strings.ContainsAny(typed, "/") {
		return nil
	}
	user, part := "", typed
	if at := strings.LastIndexByte(typed, '@'); at >= 0 {
		user, part = typed[:at+1], typed[at+1:]
	}
	all := blockdev.Hosts(context.Background())
	if user == "" {
		all = append(all, config.FileSections()...)
	}
	for _, name := range all {
		if strings.Contains(name, ":") { // an address
			name = "[" + name + "]"
		}
		if strings.HasPrefix(name, part) {
			list = append(list, user+name+":")
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// localPaths are devices, files and directories of this machine.
func localPaths(typed string) (list []string) {
	dir, part := filepath.Split(typed)
	where := dir
	if where == "" {
		where = "."
	}
	entries, err := os.ReadDir(where)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, part) || part == "" && strings.HasPrefix(name, ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(where, name)) // names of devices are links
		switch {
		case err != nil:
		case info.IsDir():
			list = append(list, dir+name+"/")
		case info.Mode().IsRegular(), isDevice(info.Mode()):
			list = append(list, dir+name)
		}
	}
	return list
}

func isDevice(m fs.FileMode) bool { return m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0 }

// remotePaths are those of a host, where it can be reached soon and without asking.
func remotePaths(name, rest string) (list []string) {
	if name == host.Localhost {
		for _, path := range localPaths(rest) {
			list = append(list, name+":"+path)
		}
		return list
	}
	ctx, cancel := context.WithTimeout(context.Background(), remoteTime)
	defer cancel()
	paths, err := blockdev.Paths(ctx, name, rest)
	if err != nil {
		cobra.CompDebugln(err.Error(), true)
	}
	for _, path := range paths {
		list = append(list, name+":"+path)
	}
	return list
}
