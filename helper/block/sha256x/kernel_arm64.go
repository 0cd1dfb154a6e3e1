package sha256x

import "github.com/klauspost/cpuid/v2"

var kernels = []kernel{{
	name: "sha2-x2", lanes: 2, least: 2, word: [8]int{0, 1, 2, 3, 4, 5, 6, 7}, lane: 8, compress: compressSHA2,
	available: cpuid.CPU.Supports(cpuid.SHA2),
}}

// compressSHA2 goes on with the digests of two blocks. It needs the SHA-2 instructions.
//
//go:noescape
func compressSHA2(state *[8 * maxLanes]uint32, blocks *[maxLanes]*byte, chunks int)
