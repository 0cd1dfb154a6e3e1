package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// sixteen is one chunk of sixteen blocks: every register holds the same word of
// all of them. There are enough registers for the whole schedule. Names follow
// FIPS 180-4.
type sixteen struct {
	*kernel
	vars  [8]VecPhysical  // a to d and e to h, each four renamed from round to round
	words [16]VecPhysical // the last 16 words of the schedule
	tmp   [5]VecPhysical
}

// Truth tables for VPTERNLOGD, of its destination, second and first source.
const (
	choose   = U8(0xca) // x ? y : z
	majority = U8(0xe8)
	parity   = U8(0x96)
)

// lanesAVX512 does sixteen blocks for processors whose SHA instructions are slow, or
// whose vectors are quicker still.
func lanesAVX512() {
	k := begin("compressAVX512", "compressAVX512 goes on with the digests of sixteen blocks. It needs AVX512F, AVX512VL and AVX512BW.", 16)
	s := &sixteen{
		kernel: k,
		vars:   [8]VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7},
		words:  [16]VecPhysical{Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23},
		tmp:    [5]VecPhysical{Z24, Z25, Z26, Z27, Z28},
	}
	order := Z31
	VBROADCASTI32X4(swap, order)
	for i, r := range s.vars {
		VMOVDQU32(k.state.Offset(64*i), r)
	}
	k.loop(func() {
		s.transpose(order)
		k.rounds(func(t int, constant Mem, last bool) {
			s.round(t, constant)
			if !last {
				s.extend(t)
			}
		})
		for i, r := range s.vars {
			VPADDD(k.state.Offset(64*i), r, r)
			VMOVDQU32(r, k.state.Offset(64*i))
		}
	})
	VZEROUPPER()
	RET()
}

// transpose loads the 16 words of the chunk of each block and puts the same word of
// all blocks side by side: first within the quarters of a register, then the quarters
// of four registers.
func (s *sixteen) transpose(order VecPhysical) {
	mix := [4]VecPhysical(s.tmp[:4])
	for four := range 4 {
		row := [4]VecPhysical(s.words[4*four:])
		s.loadFour(4*four, s.at, row, order)
		interleave(row, mix)
	}
	for j := range 4 {
		row := [4]VecPhysical{s.words[j], s.words[4+j], s.words[8+j], s.words[12+j]}
		exchange(row, row[1], row[3], mix)
	}
}

// loadFour loads the chunks at an offset of four blocks, in the order of words. Each chunk
// is loaded by one instruction: blocks of 4 KiB drive each other's out of the first cache,
// which has room for twelve.
func (k *kernel) loadFour(lane int, offset Register, row [4]VecPhysical, order VecPhysical) {
	block := GP64()
	for i, r := range row {
		MOVQ(k.pointer(lane+i), block)
		VMOVDQU32(Mem{Base: block, Index: offset, Scale: 1}, r)
		VPSHUFB(order, r, r)
	}
}

// exchange gives row[i] the quarters i of all four: those of row[0], second, row[2] and
// fourth, which may be in memory. It uses mix.
func exchange(row [4]VecPhysical, second, fourth Op, mix [4]VecPhysical) {
	const lower, upper, even, odd = U8(0x44), U8(0xee), U8(0x88), U8(0xdd)
	VSHUFI32X4(lower, second, row[0], mix[0])
	VSHUFI32X4(lower, fourth, row[2], mix[1])
	VSHUFI32X4(upper, second, row[0], mix[2])
	VSHUFI32X4(upper, fourth, row[2], mix[3])
	VSHUFI32X4(even, mix[1], mix[0], row[0])
	VSHUFI32X4(odd, mix[1], mix[0], row[1])
	VSHUFI32X4(even, mix[3], mix[2], row[2])
	VSHUFI32X4(odd, mix[3], mix[2], row[3])
}

// turns is one of the sums of FIPS 180-4, section 4.1.2: the exclusive or of a word turned
// right by three counts, or, for those of the schedule, turned twice and shifted once.
type turns struct {
	by    [3]int
	shift bool // the third is a shift
}

var (
	sum0    = turns{by: [3]int{2, 13, 22}}
	sum1    = turns{by: [3]int{6, 11, 25}}
	extend0 = turns{by: [3]int{7, 18, 3}, shift: true}
	extend1 = turns{by: [3]int{17, 19, 10}, shift: true}
)

// of stores the sum of x in tmp[0]. It uses the first three of tmp.
func (n turns) of(x VecPhysical, tmp []VecPhysical) {
	VPRORD(U8(n.by[0]), x, tmp[0])
	VPRORD(U8(n.by[1]), x, tmp[1])
	if n.shift {
		VPSRLD(U8(n.by[2]), x, tmp[2])
	} else {
		VPRORD(U8(n.by[2]), x, tmp[2])
	}
	VPTERNLOGD(parity, tmp[1], tmp[2], tmp[0])
}

// round is round t of 16; constant is its own of the 64. The new e, which the next round
// waits for, is known as soon as those of its parts that are made of the old e are added
// to the others, which are known before; the new a follows from it.
func (s *sixteen) round(t int, constant Mem) {
	v := func(half, i int) VecPhysical { return s.vars[4*half+(i-t+64)%4] }
	a, b, c, d := v(0, 0), v(0, 1), v(0, 2), v(0, 3)
	e, f, g, h := v(1, 0), v(1, 1), v(1, 2), v(1, 3)
	k, pick := s.tmp[3], s.tmp[4]
	VPADDD_BCST(constant, s.words[t], k)
	VPADDD(k, h, h)
	VPADDD(d, h, h)
	VMOVDQA32(e, pick)
	VPTERNLOGD(choose, g, f, pick)
	VPADDD(pick, h, h)
	sum1.of(e, s.tmp[:])
	VPADDD(s.tmp[0], h, h)
	VPSUBD(d, h, d)
	VMOVDQA32(a, pick)
	VPTERNLOGD(majority, c, b, pick)
	VPADDD(pick, d, d)
	sum0.of(a, s.tmp[:])
	VPADDD(s.tmp[0], d, d)
}

// extend replaces word t, which was used, by word t+16 of the schedule.
func (s *sixteen) extend(t int) {
	w := func(i int) VecPhysical { return s.words[(t+i)%16] }
	VPADDD(w(9), w(0), w(0))
	extend0.of(w(1), s.tmp[:])
	VPADDD(s.tmp[0], w(0), w(0))
	extend1.of(w(14), s.tmp[:])
	VPADDD(s.tmp[0], w(0), w(0))
}
