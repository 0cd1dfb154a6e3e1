package sha256x

import (
	"slices"
	"testing"

	"github.com/klauspost/cpuid/v2"
)

func TestWider(t *testing.T) {
	for _, c := range []struct {
		maker  cpuid.Vendor
		family int
		halves bool
		want   bool
	}{
		{cpuid.Intel, 6, false, true}, {cpuid.AMD, 0x1a, false, true}, {cpuid.AMD, 0x1a, true, false},
		{cpuid.AMD, 0x19, false, false}, {cpuid.Hygon, 0x18, false, false},
	} {
		if got := wider(c.maker, c.family, c.halves); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// Few blocks go by the SHA instructions where there are any, also where sixteen lanes are preferred.
func TestPrefer(t *testing.T) {
	for _, c := range []struct {
		avx512, sha bool
		want        []string
		least       int // blocks for sixteen lanes
	}{
		{true, true, []string{"avx512-x16", "sha-ni-x4", "sha-ni-x2", "avx2-x8"}, 10},
		{true, false, []string{"avx512-x16", "sha-ni-x4", "sha-ni-x2", "avx2-x8"}, 3},
		{false, true, []string{"sha-ni-x4", "sha-ni-x2", "avx512-x16", "avx2-x8"}, 10},
	} {
		var names []string
		for _, k := range prefer(c.avx512, c.sha) {
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
