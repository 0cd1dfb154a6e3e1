package host

import (
	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// compressChoices are the values of the option compress, in the order of the wire.
type compressChoices struct{}

func (compressChoices) Choices() []string {
	return []string{wire.CompressAuto: "auto", wire.CompressOff: "off", wire.CompressS2: "s2", wire.CompressZstd: "zstd"}
}

func (compressChoices) Type() string { return "auto|off|s2|zstd" }

// Compress is the option compress.
type Compress = fs.Enum[compressChoices]

// compression is what the helper of s is asked to do on its way to this process.
func (s *Session) compression() wire.Compression {
	if s.Local() {
		return wire.CompressOff
	}
	return wire.Compression(s.host.cfg.Compress)
}

// compression is how data goes from src to dst. Nothing is gained where it never
// leaves this process; else the target's wish counts, and the source's when the
// target leaves it open.
func compression(src, dst *Session) wire.Compression {
	from, to := src.compression(), dst.compression()
	switch {
	case src.Local():
		return to
	case dst.Local() || to == wire.CompressAuto:
		return from
	}
	return to
}
