package sha256x

import "github.com/klauspost/cpuid/v2"

// A lane of the SHA instructions has its words in the order of their registers.
var shaWords = [8]int{3, 2, 7, 6, 1, 0, 5, 4}

// kernels are in the order of preference. Eight lanes of AVX2 take as long as two
// to three blocks one by one without SHA instructions.
var kernels = []kernel{
	{
		name: "sha-ni-x4", lanes: 4, least: 3, word: shaWords, lane: 8, compress: compressSHANI4,
		available: cpuid.CPU.Supports(cpuid.SHA, cpuid.AVX512F, cpuid.AVX512VL, cpuid.AVX512BW),
	}, {
		name: "sha-ni-x2", lanes: 2, least: 2, word: shaWords, lane: 8, compress: compressSHANI2,
		available: cpuid.CPU.Supports(cpuid.SHA, cpuid.SSSE3, cpuid.SSE4),
	}, {
		name: "avx2-x8", lanes: 8, least: 4, word: [8]int{0, 8, 16, 24, 32, 40, 48, 56}, lane: 1, compress: compressAVX2,
		available: cpuid.CPU.Supports(cpuid.AVX2),
	},
}
