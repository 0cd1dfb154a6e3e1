package host

import (
	"slices"
	"strings"
)

// Known names the hosts that can be listed: this machine, then the aliases of
// the ssh config files. It contacts nobody.
func Known(cfg Config) ([]string, error) {
	settings, err := loadSSHConfig(cfg)
	if err != nil {
		return nil, err
	}
	var aliases []string
	for _, file := range settings.files {
		for _, h := range file.Hosts {
			for _, p := range h.Patterns {
				if name := p.String(); !strings.ContainsAny(name, "*?!/") && name != Localhost {
					aliases = append(aliases, name)
				}
			}
		}
	}
	slices.Sort(aliases)
	return append([]string{Localhost}, slices.Compact(aliases)...), nil
}
