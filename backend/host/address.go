package host

import "strings"

// At is c for the host that a path names: "[user@]host[:port]". What the path
// does not say stays as it is in c.
func (c Config) At(spec string) Config {
	if at := strings.LastIndexByte(spec, '@'); at >= 0 {
		c.User, spec = spec[:at], spec[at+1:]
	}
	var port string
	if c.Host, port = splitHostPort(spec); port != "" {
		c.Port = port
	}
	return c
}
