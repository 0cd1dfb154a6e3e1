package sha256x

import "github.com/klauspost/cpuid/v2"

// A lane of the SHA instructions has its words in the order of their registers.
var shaWords = [8]int{3, 2, 7, 6, 1, 0, 5, 4}

// With SHA instructions, sixteen lanes of AVX-512 take as long as nine blocks by
// them on Intel. Without, eight or sixteen lanes take as long as two to three
// blocks one by one.
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
	byAVX2 = kernel{
		name: "avx2-x8", lanes: 8, least: 4, word: [8]int{0, 8, 16, 24, 32, 40, 48, 56}, lane: 1, compress: compressAVX2,
		available: cpuid.CPU.Supports(cpuid.AVX2),
	}
)

// kernels are in the order of preference of this processor. AMD's begin two rounds
// of SHA-256 in every cycle; Intel's half as many, which AVX-512 outdoes.
var kernels = prefer(cpuid.CPU.VendorID == cpuid.Intel, cpuid.CPU.Supports(cpuid.SHA))

func prefer(intel, sha bool) []kernel {
	wide := byAVX512
	if sha {
		wide.least = 10
	}
	if intel {
		return append([]kernel{wide}, append(bySHA, byAVX2)...)
	}
	return append(bySHA, wide, byAVX2)
}
