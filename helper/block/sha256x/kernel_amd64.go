package sha256x

import (
	"slices"

	"github.com/klauspost/cpuid/v2"
)

// A lane of the SHA instructions has its words in the order of their registers.
var shaWords = [8]int{3, 2, 7, 6, 1, 0, 5, 4}

// With SHA instructions, sixteen lanes of AVX-512 take as long as nine or ten blocks by
// them. Without, eight or sixteen lanes take as long as two to three blocks one by one.
// Where two sets of sixteen are preferred, they take as long as sixteen lanes and five
// blocks besides.
var (
	bySHA = []kernel{{
		name: "sha-ni-x4", lanes: 4, least: 3, word: shaWords, lane: 8, compress: compressSHANI4,
		available: cpuid.CPU.Supports(cpuid.SHA, cpuid.AVX512F, cpuid.AVX512VL, cpuid.AVX512BW),
	}, {
		name: "sha-ni-x2", lanes: 2, least: 2, word: shaWords, lane: 8, compress: compressSHANI2,
		available: cpuid.CPU.Supports(cpuid.SHA, cpuid.SSSE3, cpuid.SSE4),
	}}
	byAVX512 = kernel{
		name: "avx512-x16", lanes: 16, least: 3, word: [8]int{0, 16, 32, 48, 64, 80, 96, 112}, lane: 1, compress: compressAVX512,
		available: cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512VL, cpuid.AVX512BW),
	}
	byPair = kernel{
		name: "avx512-x32", lanes: 32, least: 21, word: [8]int{0, 32, 64, 96, 128, 160, 192, 224}, lane: 1, compress: compressAVX512Pair,
		available: byAVX512.available,
	}
	byAVX2 = kernel{
		name: "avx2-x8", lanes: 8, least: 4, word: [8]int{0, 8, 16, 24, 32, 40, 48, 56}, lane: 1, compress: compressAVX2,
		available: cpuid.CPU.Supports(cpuid.AVX2),
	}
)

// kernels are in the order of preference of this processor.
var kernels = prefer(
	cpuid.CPU.VendorID, cpuid.CPU.Family, cpuid.CPU.Supports(cpuid.FP256), cpuid.CPU.Supports(cpuid.SHA))

// prefer is the table in the order of a processor; sha tells whether it has SHA instructions. Of these AMD's
// begin two rounds in a cycle, and Intel's one. AMD's have vector units of 512 bits since Zen 5 (family 1Ah), but
// for those that tell that theirs have 256 (FP256, here halves). These units begin four operations in a cycle, of
// which each takes two, and so have room for a second set of sixteen lanes; Intel's begin two that take one. Elsewhere
// the pair has not been measured, and stands last.
func prefer(maker cpuid.Vendor, family int, halves, sha bool) []kernel {
	wide := byAVX512
	if sha {
		wide.least = 10
	}
	switch {
	case maker == cpuid.AMD && family >= 0x1a && !halves:
		return slices.Concat([]kernel{byPair, wide}, bySHA, []kernel{byAVX2})
	case maker == cpuid.Intel:
		return slices.Concat([]kernel{wide}, bySHA, []kernel{byAVX2, byPair})
	default:
		return slices.Concat(bySHA, []kernel{wide, byAVX2, byPair})
	}
}
