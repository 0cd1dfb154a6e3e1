package host

import (
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func TestCompression(t *testing.T) {
	here := &Session{}
	there := func(c wire.Compression) *Session {
		return &Session{conn: new(connection), host: newHost(Config{Compress: Compress(c)})}
	}
	for _, test := range []struct {
		src, dst *Session
		want     wire.Compression
	}{
		{here, here, wire.CompressOff},
		{here, there(wire.CompressAuto), wire.CompressAuto},
		{here, there(wire.CompressZstd), wire.CompressZstd},
		{there(wire.CompressS2), here, wire.CompressS2},
		{there(wire.CompressS2), there(wire.CompressAuto), wire.CompressS2},
		{there(wire.CompressS2), there(wire.CompressOff), wire.CompressOff},
		{there(wire.CompressAuto), there(wire.CompressAuto), wire.CompressAuto},
	} {
		if got := compression(test.src, test.dst); got != test.want {
			t.Errorf("%+v: got %d", test, got)
		}
	}
}
