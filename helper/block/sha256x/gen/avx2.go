package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// eight is one chunk of eight blocks: every register holds the same word of all
// of them. Names follow FIPS 180-4.
type eight struct {
	*kernel
	vars  [8]VecPhysical // a to h, renamed from round to round
	words Mem            // the last 16 words of the schedule
	tmp   [7]VecPhysical
	bc    VecPhysical // b xor c, which was a xor b in the round before
}

// lanesAVX2 does eight blocks for processors without SHA instructions.
func lanesAVX2() {
	k := begin("compressAVX2", "compressAVX2 goes on with the digests of eight blocks. It needs AVX2.", 8)
	e := &eight{
		kernel: k,
		vars:   [8]VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7},
		tmp:    [7]VecPhysical{Y8, Y9, Y10, Y11, Y12, Y13, Y14},
		bc:     Y15,
	}
	scratch := AllocLocal(16*32 + 32)
	base := GP64()
	LEAQ(scratch.Offset(31), base)
	ANDQ(I8(-32), base)
	e.words = Mem{Base: base}
	for i, r := range e.vars {
		VMOVDQU(k.state.Offset(32*i), r)
	}
	k.loop(func() {
		e.transpose()
		VPXOR(e.vars[1], e.vars[2], e.bc)
		k.rounds(func(t int, constant Mem, last bool) {
			e.round(t, constant)
			if !last {
				e.extend(t)
			}
		})
		for i, r := range e.vars {
			VPADDD(k.state.Offset(32*i), r, r)
			VMOVDQU(r, k.state.Offset(32*i))
		}
	})
	VZEROUPPER()
	RET()
}

func (e *eight) word(t int) Mem { return e.words.Offset(32 * (t % 16)) }

// transpose stores the 16 words of the chunk of each block, the same word of all
// blocks side by side. It takes four words of each at a time, those of blocks 0
// to 3 in the lower half of a register, those of 4 to 7 in the upper one.
func (e *eight) transpose() {
	for q := 0; q < 16; q += 4 {
		row := [4]VecPhysical{Y8, Y9, Y10, Y11}
		mix := [4]VecPhysical{Y12, Y13, Y14, Y15}
		for l, r := range row {
			VMOVDQU(e.data(l, 4*q), r.AsX())
			VINSERTI128(U8(1), e.data(l+4, 4*q), r, r)
			VPSHUFB(swap, r, r)
		}
		interleave(row, mix)
		for i, r := range row {
			VMOVDQA(r, e.word(q+i))
		}
	}
}

// rotations stores in tmp[0] the exclusive or of x turned right by three counts;
// with shift, the last of them is a shift. It uses tmp[0] to tmp[3].
func (e *eight) rotations(x VecPhysical, r1, r2, r3 int, shift bool) {
	sum, t1, t2, t3 := e.tmp[0], e.tmp[1], e.tmp[2], e.tmp[3]
	VPSRLD(U8(r1), x, sum)
	VPSLLD(U8(32-r1), x, t1)
	VPSRLD(U8(r2), x, t2)
	VPSLLD(U8(32-r2), x, t3)
	VPXOR(t1, sum, sum)
	VPXOR(t3, t2, t2)
	VPSRLD(U8(r3), x, t1)
	VPXOR(t2, sum, sum)
	if !shift {
		VPSLLD(U8(32-r3), x, t3)
		VPXOR(t3, t1, t1)
	}
	VPXOR(t1, sum, sum)
}

// round is round t of 16; constant is its own of the 64.
func (e *eight) round(t int, constant Mem) {
	v := func(i int) VecPhysical { return e.vars[(i-t+64)%8] }
	a, b, d := v(0), v(1), v(3)
	ee, f, g, h := v(4), v(5), v(6), v(7)
	k, ch, ab := e.tmp[4], e.tmp[5], e.tmp[6]
	VPBROADCASTD(constant, k)
	VPADDD(e.word(t), k, k)
	VPADDD(k, h, h)
	VPXOR(f, g, ch)
	VPAND(ee, ch, ch)
	VPXOR(g, ch, ch)
	VPADDD(ch, h, h)
	e.rotations(ee, 6, 11, 25, false)
	VPADDD(e.tmp[0], h, h)
	VPADDD(h, d, d)
	VPXOR(a, b, ab)
	VPAND(ab, e.bc, e.bc)
	VPXOR(b, e.bc, e.bc) // the majority of a, b and c
	VPADDD(e.bc, h, h)
	e.rotations(a, 2, 13, 22, false)
	VPADDD(e.tmp[0], h, h)
	e.bc, e.tmp[6] = ab, e.bc
}

// extend replaces word t, which was used, by word t+16 of the schedule.
func (e *eight) extend(t int) {
	x, next := e.tmp[4], e.tmp[5]
	VMOVDQA(e.word(t+1), x)
	e.rotations(x, 7, 18, 3, true)
	VPADDD(e.word(t), e.tmp[0], next)
	VPADDD(e.word(t+9), next, next)
	VMOVDQA(e.word(t+14), x)
	e.rotations(x, 17, 19, 10, true)
	VPADDD(e.tmp[0], next, next)
	VMOVDQA(next, e.word(t))
}
