package host

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Named names the hosts that a user of ssh is likely to mean: the aliases of the ssh
// config, and the names in known_hosts that are readable and on the usual port. It
// contacts nobody.
func Named(cfg Config) []string {
	names, _ := Known(cfg) // what cannot be read names nobody
	names = slices.DeleteFunc(names, func(name string) bool { return name == Localhost })
	files := []string{"~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"}
	if cfg.KnownHostsFile != "" {
		files = []string{cfg.KnownHostsFile}
	}
	for _, name := range files {
		if f, err := os.Open(optionPath(name)); err == nil {
			names = append(names, hostsIn(f)...)
			f.Close()
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// hostsIn are the names in a known_hosts file that stand for one host each.
func hostsIn(r io.Reader) (names []string) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		first, _, ok := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if !ok || strings.ContainsAny(first, "#@|") { // a comment, a marker, hashed
			continue
		}
		for name := range strings.SplitSeq(first, ",") {
			if name != "" && !strings.ContainsAny(name, "*?![]") {
				names = append(names, name)
			}
		}
	}
	return names
}

// mostPaths bounds what Paths reads, in bytes.
const mostPaths = 256 << 10

// Paths names the devices, files and directories of the host whose path begins with
// prefix; directories end with a slash. It asks the user nothing, needs no helper
// and puts none there.
func (h *Host) Paths(ctx context.Context, prefix string) ([]string, error) {
	if err := checkWord(prefix); err != nil {
		return nil, err
	}
	cfg := h.cfg
	cfg.AskPassword, cfg.Sudo = false, false
	if len(cfg.SSH) > 0 {
		if name := strings.TrimSuffix(filepath.Base(cfg.SSH[0]), ".exe"); name != "ssh" {
			return nil, fmt.Errorf("%s might ask something", name)
		}
		cfg.SSH = append(slices.Clone(cfg.SSH), "-o", "BatchMode=yes")
	}
	conn, err := Dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	p, err := conn.(*deployer).remote.run(ctx, pathsCommand(prefix))
	if err != nil {
		return nil, err
	}
	defer p.stop()
	defer context.AfterFunc(ctx, p.kill)()
	_ = p.stdin.Close()
	said, _ := io.ReadAll(io.LimitReader(p.stdout, mostPaths))
	var paths []string
	for r := range replies(said) {
		if r.verb == replyPath && strings.HasPrefix(r.detail, prefix) {
			paths = append(paths, r.detail)
		}
	}
	return paths, context.Cause(ctx)
}
