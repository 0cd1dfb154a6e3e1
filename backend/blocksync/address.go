package blocksync

import (
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
)

// address is what SRC or DST says: a path on a host, or an rclone remote.
type address struct {
	host   string // [user@]host[:port], host.Localhost for this machine; empty for a remote
	path   string // on the host, absolute
	remote string // as rclone writes it
}

// parse reads an address as it is typed. configured tells which names are remotes.
// What a name means never depends on what files there are.
func parse(typed string, configured func(name string) bool) (address, error) {
	return parseOn(runtime.GOOS == "windows", typed, configured)
}

// parseOn is parse on Windows, where local paths have drive letters and backslashes,
// or elsewhere, where both are parts of names.
func parseOn(windows bool, typed string, configured func(name string) bool) (address, error) {
	switch {
	case typed == "":
		return address{}, wrong("an empty name is no source and no target")
	case strings.HasPrefix(typed, "ssh://"):
		return parseURL(typed)
	case strings.HasPrefix(typed, ":"): // a backend and its options
		return address{remote: typed}, nil
	}
	name, rest := cutHost(typed)
	switch {
	case windows && strings.HasPrefix(typed, `\\`):
		return address{}, wrong("%q: devices and shares of Windows cannot be opened: only image files on its drives, and what other hosts have", typed)
	case windows && (len(name) == 1 || strings.Contains(name, `\`)), name == "":
		return local(typed)
	}
	remote, _, _ := strings.Cut(name, ",")
	switch {
	case configured(remote):
		return address{remote: typed}, nil
	case !strings.HasPrefix(rest, "/"):
		return address{}, wrong("%q: no remote named %q is configured, and a path on a host is absolute: write %s:/path, or ./%s for a file of this machine", typed, remote, name, typed)
	}
	return onHost(typed, name, rest)
}

// cutHost separates what stands before the first colon that is not within brackets.
// A slash before it makes the whole a local path.
func cutHost(typed string) (name, rest string) {
	inside := false
	for i, c := range typed {
		switch {
		case c == '[' && (i == 0 || typed[i-1] == '@'):
			inside = true
		case c == ']':
			inside = false
		case c == '/':
			return "", ""
		case c == ':' && !inside:
			return typed[:i], typed[i+1:]
		}
	}
	return "", ""
}

// parseURL reads ssh://[user@]host[:port]/path. Nothing in the path is an escape.
func parseURL(typed string) (address, error) {
	spec, rest, _ := strings.Cut(strings.TrimPrefix(typed, "ssh://"), "/")
	if u, err := url.Parse("ssh://" + spec); err != nil || u.Hostname() == "" {
		return address{}, wrong("%q: names no host: write ssh://user@host:port/path", typed)
	}
	return onHost(typed, spec, "/"+rest)
}

func onHost(typed, name, rest string) (address, error) {
	if strings.HasSuffix(rest, "/") {
		return address{}, wrong("%q: names a directory: name a device or image file", typed)
	}
	return address{host: name, path: path.Clean(rest)}, nil
}

// local is a path of this machine.
func local(typed string) (address, error) {
	if strings.HasSuffix(filepath.ToSlash(typed), "/") {
		return address{}, wrong("%q: names a directory: name a device or image file", typed)
	}
	abs, err := filepath.Abs(typed)
	return address{host: host.Localhost, path: filepath.ToSlash(abs)}, err
}

// usageError is a combination of arguments that has no meaning.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func wrong(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }
