package sha256x

import (
	"slices"
	"testing"

	"github.com/klauspost/cpuid/v2"
)

// Few blocks go by the SHA instructions where there are any, also where many lanes are preferred.
func TestPrefer(t *testing.T) {
	for _, c := range []struct {
		maker       cpuid.Vendor
		family      int
		halves, sha bool
		want        []string
		least       int // blocks for sixteen lanes
	}{
		{cpuid.Intel, 6, false, true, []string{"avx512-x16", "sha-ni-x4", "sha-ni-x2", "avx2-x8", "avx512-x32"}, 10},
		{cpuid.Intel, 6, false, false, []string{"avx512-x16", "sha-ni-x4", "sha-ni-x2", "avx2-x8", "avx512-x32"}, 3},
		{cpuid.AMD, 0x1a, false, true, []string{"avx512-x32", "avx512-x16", "sha-ni-x4", "sha-ni-x2", "avx2-x8"}, 10},
		{cpuid.AMD, 0x1a, true, true, []string{"sha-ni-x4", "sha-ni-x2", "avx512-x16", "avx2-x8", "avx512-x32"}, 10},
		{cpuid.AMD, 0x19, false, true, []string{"sha-ni-x4", "sha-ni-x2", "avx512-x16", "avx2-x8", "avx512-x32"}, 10},
		{cpuid.Hygon, 0x18, false, true, []string{"sha-ni-x4", "sha-ni-x2", "avx512-x16", "avx2-x8", "avx512-x32"}, 10},
	} {
		var names []string
		for _, k := range prefer(c.maker, c.family, c.halves, c.sha) {
			names = append(names, k.name)
			if k.lanes == 16 && k.least != c.least {
				t.Errorf("%+v: sixteen lanes from %d blocks on", c, k.least)
			}
		}
		if !slices.Equal(names, c.want) {
			t.Errorf("%+v: %v", c, names)
		}
	}
}
