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
	vars  [8]VecPhysical  // a to h, renamed from round to round
	words [16]VecPhysical // the last 16 words of the schedule
	tmp   [5]VecPhysical
}

// Truth tables for VPTERNLOGD, of its destination, second and first source.
const (
	choose   = U8(0xca) // x ? y : z
	majority = U8(0xe8)
	parity   = U8(0x96)
)

// lanesAVX512 does sixteen blocks for processors whose SHA instructions are slow.
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

// transpose loads the 16 words of the chunk of each block and puts the same word
// of all blocks side by side. A quarter of a register has four words of a block,
// then one word of four blocks: putting the quarters together while loading
// spares the processor half of the shuffles.
func (s *sixteen) transpose(order VecPhysical) {
	block := [4]GPVirtual{GP64(), GP64(), GP64(), GP64()}
	for row := range 4 {
		for quarter := range 4 {
			MOVQ(s.pointer(4*quarter+row), block[quarter])
		}
		for q := range 4 {
			r := s.words[4*q+row]
			part := func(quarter int) Mem {
				return Mem{Base: block[quarter], Index: s.at, Scale: 1, Disp: 16 * q}
			}
			VMOVDQU32(part(0), r.AsX())
			for quarter := 1; quarter < 4; quarter++ {
				VINSERTI32X4(U8(quarter), part(quarter), r, r)
			}
			VPSHUFB(order, r, r)
		}
	}
	for q := range 4 {
		row, mix := s.words[4*q:4*q+4], s.tmp[:4]
		VPUNPCKLDQ(row[1], row[0], mix[0])
		VPUNPCKHDQ(row[1], row[0], mix[1])
		VPUNPCKLDQ(row[3], row[2], mix[2])
		VPUNPCKHDQ(row[3], row[2], mix[3])
		VPUNPCKLQDQ(mix[2], mix[0], row[0])
		VPUNPCKHQDQ(mix[2], mix[0], row[1])
		VPUNPCKLQDQ(mix[3], mix[1], row[2])
		VPUNPCKHQDQ(mix[3], mix[1], row[3])
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

// round is round t of 16; constant is its own of the 64.
func (s *sixteen) round(t int, constant Mem) {
	v := func(i int) VecPhysical { return s.vars[(i-t+64)%8] }
	a, b, c, d := v(0), v(1), v(2), v(3)
	e, f, g, h := v(4), v(5), v(6), v(7)
	k, pick := s.tmp[3], s.tmp[4]
	VPADDD_BCST(constant, s.words[t], k)
	VPADDD(k, h, h)
	VMOVDQA32(e, pick)
	VPTERNLOGD(choose, g, f, pick)
	VPADDD(pick, h, h)
	s.rotations(e, 6, 11, 25, false)
	VPADDD(s.tmp[0], h, h)
	VPADDD(h, d, d)
	VMOVDQA32(a, pick)
	VPTERNLOGD(majority, c, b, pick)
	VPADDD(pick, h, h)
	s.rotations(a, 2, 13, 22, false)
	VPADDD(s.tmp[0], h, h)
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
