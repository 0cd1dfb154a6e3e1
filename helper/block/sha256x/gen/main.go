// Program gen writes the amd64 assembly of package sha256x. It is a module of
// its own, so that nobody who builds the project needs avo, and so that
// "go generate ./..." of the project does not come here. After a change:
//
//	cd helper/block/sha256x/gen && go generate
//
// and commit what it wrote.
package main

//go:generate go run . -out ../sum_amd64.s -stubs ../stubs_amd64.go -pkg sha256x

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// chunk is what one compression takes in, in bytes.
const chunk = 64

// roundConstants are those of FIPS 180-4, section 4.2.2.
var roundConstants = [64]uint32{
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}

// The read-only tables: the round constants, and the control of PSHUFB that
// turns big-endian words round, twice, for both halves of a Y register.
var table, swap Mem

func main() {
	table = GLOBL("roundConstants", 8|16) // NOPTR, RODATA
	for i, k := range roundConstants {
		DATA(4*i, U32(k))
	}
	swap = GLOBL("swapWords", 8|16)
	for half := range 2 {
		DATA(16*half, U64(0x0405060700010203))
		DATA(16*half+8, U64(0x0c0d0e0f08090a0b))
	}
	interleavedSSE()
	interleavedVL()
	lanesAVX2()
	lanesAVX512()
	pairAVX512()
	Generate()
}

// kernel is what all kernels have: their arguments and the loop over chunks.
type kernel struct {
	lanes         int
	state         Mem
	starts        Mem        // the list of where each lane starts
	blocks        []Register // where each lane starts; only when there are registers for all
	at, remaining Register   // offset of the chunk in every block, bytes still to come
}

// begin declares a function and loads its arguments.
func begin(name, doc string, lanes int) *kernel {
	TEXT(name, 0, "func(state *[256]uint32, blocks *[32]*byte, chunks int)")
	Doc(doc)
	Pragma("noescape")
	k := &kernel{lanes: lanes}
	k.state = Mem{Base: Load(Param("state"), GP64())}
	k.starts = Mem{Base: Load(Param("blocks"), GP64())}
	k.remaining = Load(Param("chunks"), GP64())
	SHLQ(U8(6), k.remaining)
	for l := 0; l < lanes && lanes <= 8; l++ {
		r := GP64()
		MOVQ(k.pointer(l), r)
		k.blocks = append(k.blocks, r)
	}
	k.at = GP64()
	XORQ(k.at, k.at)
	return k
}

// pointer is where the start of a lane is kept.
func (k *kernel) pointer(lane int) Mem { return k.starts.Offset(8 * lane) }

// data is the place of the byte at an offset of the current chunk of a lane.
func (k *kernel) data(lane, offset int) Mem {
	return Mem{Base: k.blocks[lane], Index: k.at, Scale: 1, Disp: offset}
}

// rounds does the 64 rounds of a chunk by those of 16 words: round takes one word and
// its constant in, and unless they are the last 16, replaces it by the one that comes
// 16 later.
func (k *kernel) rounds(round func(t int, constant Mem, last bool)) {
	constants, times := GP64(), GP64()
	LEAQ(table, constants)
	MOVQ(U32(3), times)
	Label("rounds")
	for t := range 16 {
		round(t, Mem{Base: constants, Disp: 4 * t}, false)
	}
	ADDQ(U8(64), constants)
	DECQ(times)
	JNZ(LabelRef("rounds"))
	for t := range 16 {
		round(t, Mem{Base: constants, Disp: 4 * t}, true)
	}
}

// interleave puts the same word of four registers side by side, in each part of 128 bits:
// row[i] has word i of that part of all four. It uses mix.
func interleave(row, mix [4]VecPhysical) {
	VPUNPCKLDQ(row[1], row[0], mix[0])
	VPUNPCKHDQ(row[1], row[0], mix[1])
	VPUNPCKLDQ(row[3], row[2], mix[2])
	VPUNPCKHDQ(row[3], row[2], mix[3])
	VPUNPCKLQDQ(mix[2], mix[0], row[0])
	VPUNPCKHQDQ(mix[2], mix[0], row[1])
	VPUNPCKLQDQ(mix[3], mix[1], row[2])
	VPUNPCKHQDQ(mix[3], mix[1], row[3])
}

// loop runs body once for each chunk.
func (k *kernel) loop(body func()) {
	Label("chunk")
	body()
	ADDQ(U8(chunk), k.at)
	CMPQ(k.at, k.remaining)
	JB(LabelRef("chunk"))
}
