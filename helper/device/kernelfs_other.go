//go:build !linux

package device

import "strings"

// kernelTree names the tree of the kernel that dir belongs to: nothing is
// created or removed there.
func kernelTree(dir string) string {
	dir = existing(dir)
	if dir == "/dev" || strings.HasPrefix(dir, "/dev/") {
		return "/dev"
	}
	return ""
}
