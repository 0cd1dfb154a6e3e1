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
		k.rounds(s.round, s.extend)
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
// of four registers. Each chunk is loaded by one instruction: blocks of 4 KiB drive
// each other's out of the first cache, which has room for twelve.
func (s *sixteen) transpose(order VecPhysical) {
	block := GP64()
	for lane, r := range s.words {
		MOVQ(s.pointer(lane), block)
		VMOVDQU32(Mem{Base: block, Index: s.at, Scale: 1}, r)
		VPSHUFB(order, r, r)
	}
	mix := s.tmp[:4]
	for four := range 4 {
		row := s.words[4*four:][:4]
		VPUNPCKLDQ(row[1], row[0], mix[0])
		VPUNPCKHDQ(row[1], row[0], mix[1])
		VPUNPCKLDQ(row[3], row[2], mix[2])
		VPUNPCKHDQ(row[3], row[2], mix[3])
		VPUNPCKLQDQ(mix[2], mix[0], row[0])
		VPUNPCKHQDQ(mix[2], mix[0], row[1])
		VPUNPCKLQDQ(mix[3], mix[1], row[2])
		VPUNPCKHQDQ(mix[3], mix[1], row[3])
	}
	const lower, upper, even, odd = U8(0x44), U8(0xee), U8(0x88), U8(0xdd)
	for j := range 4 {
		row := [4]VecPhysical{s.words[j], s.words[4+j], s.words[8+j], s.words[12+j]}
		VSHUFI32X4(lower, row[1], row[0], mix[0])
		VSHUFI32X4(lower, row[3], row[2], mix[1])
		VSHUFI32X4(upper, row[1], row[0], mix[2])
		VSHUFI32X4(upper, row[3], row[2], mix[3])
		VSHUFI32X4(even, mix[1], mix[0], row[0])
		VSHUFI32X4(odd, mix[1], mix[0], row[1])
		VSHUFI32X4(even, mix[3], mix[2], row[2])
		VSHUFI32X4(odd, mix[3], mix[2], row[3])
	}
}

// rotations stores in tmp[0] the exclusive or of x turned right by three counts;
// with shift, the last of them is a shift. It uses tmp[0] to tmp[2].
func (s *sixteen) rotations(x VecPhysical, r1, r2, r3 int, shift bool) {
	VPRORD(U8(r1), x, s.tmp[0])
	VPRORD(U8(r2), x, s.tmp[1])
	if shift {
		VPSRLD(U8(r3), x, s.tmp[2])
	} else {
		VPRORD(U8(r3), x, s.tmp[2])
	}
	VPTERNLOGD(parity, s.tmp[1], s.tmp[2], s.tmp[0])
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
	s.rotations(e, 6, 11, 25, false)
	VPADDD(s.tmp[0], h, h)
	VPSUBD(d, h, d)
	VMOVDQA32(a, pick)
	VPTERNLOGD(majority, c, b, pick)
	VPADDD(pick, d, d)
	s.rotations(a, 2, 13, 22, false)
	VPADDD(s.tmp[0], d, d)
}

// extend replaces word t, which was used, by word t+16 of the schedule.
func (s *sixteen) extend(t int) {
	w := func(i int) VecPhysical { return s.words[(t+i)%16] }
	VPADDD(w(9), w(0), w(0))
	s.rotations(w(1), 7, 18, 3, true)
	VPADDD(s.tmp[0], w(0), w(0))
	s.rotations(w(14), 17, 19, 10, true)
	VPADDD(s.tmp[0], w(0), w(0))
}
