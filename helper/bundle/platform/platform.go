// Package platform lists the systems that the helper is built for. It stands
// apart from package bundle so that the packer does not contain its product.
package platform

// Platform is a system and processor in Go's terms.
type Platform struct{ OS, Arch string }

// String gives "linux/amd64".
func (p Platform) String() string { return p.OS + "/" + p.Arch }

// FileName is the name of the platform in files and flags, "linux-amd64".
func (p Platform) FileName() string { return p.OS + "-" + p.Arch }

// All lists every platform of a complete bundle.
func All() []Platform {
	return []Platform{
		{"linux", "amd64"},
		{"linux", "arm64"},
		{"linux", "arm"},
		{"linux", "386"},
		{"linux", "riscv64"},
		{"linux", "ppc64le"},
		{"linux", "s390x"},
		{"freebsd", "amd64"},
		{"freebsd", "arm64"},
		{"darwin", "amd64"},
		{"darwin", "arm64"},
	}
}

// Lookup finds a platform by its file name.
func Lookup(fileName string) (Platform, bool) {
	for _, p := range All() {
		if p.FileName() == fileName {
			return p, true
		}
	}
	return Platform{}, false
}
