package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// half is one of two sets of sixteen blocks that are done in turn: every register holds
// the same word of all of them. The schedules are in memory, but for the words that the
// next rounds need. Names follow FIPS 180-4.
type half struct {
	*kernel
	first  int            // its first lane
	vars   [8]VecPhysical // a to h, renamed from round to round
	near   [4]VecPhysical // words t, t+1, t+14 and t+15 of the schedule, renamed too
	words  Mem            // the last 16 of the schedule
	coming Mem            // the first 16 of the next chunk's
}

// What a half needs for a moment is the same registers for both: the processor renames
// them. Between two chunks the rows and what mixes them take the place of near.
var (
	halfTmp   = [4]VecPhysical{Z24, Z25, Z26, Z27}
	halfRow   = [4]VecPhysical{Z16, Z17, Z18, Z19}
	halfMix   = [4]VecPhysical{Z20, Z21, Z22, Z23}
	halfOrder = Z31
)

// halfSchedule is the length of 16 words of a half, in bytes.
const halfSchedule = 16 * 64

// pairAVX512 does twice sixteen blocks in turn. With sixteen, each step waits for the one
// before, and a processor that begins four operations on vectors in a cycle, of which each
// takes two, is idle for a third of the time.
func pairAVX512() {
	k := begin("compressAVX512Pair", "compressAVX512Pair goes on with the digests of 32 blocks. It needs AVX512F, AVX512VL and AVX512BW.", 32)
	scratch, words, coming := AllocLocal(4*halfSchedule+64), GP64(), GP64()
	LEAQ(scratch.Offset(63), words)
	ANDQ(I8(-64), words)
	LEAQ(Mem{Base: words, Disp: 2 * halfSchedule}, coming)
	pair := [2]*half{{
		vars: [8]VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7}, near: [4]VecPhysical{Z16, Z17, Z18, Z19},
	}, {
		vars: [8]VecPhysical{Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15}, near: [4]VecPhysical{Z20, Z21, Z22, Z23},
	}}
	for i, h := range pair {
		h.kernel, h.first = k, 16*i
		h.words = Mem{Base: words, Disp: halfSchedule * i}
		h.coming = Mem{Base: coming, Disp: halfSchedule * i}
	}

	next := GP64() // offset of the chunk that follows; of the last one, its own again
	XORQ(next, next)
	VBROADCASTI32X4(swap, halfOrder)
	for step := range 16 {
		pair[step/4%2].transpose(step, next)
	}
	for _, h := range pair {
		for i, r := range h.vars {
			VMOVDQU32(h.value(i), r)
		}
	}
	k.loop(func() {
		XCHGQ(words, coming)
		LEAQ(Mem{Base: k.at, Disp: chunk}, next)
		CMPQ(next, k.remaining)
		CMOVQEQ(k.at, next)
		for _, h := range pair {
			VMOVDQA32(h.word(0), h.near[0])
			VMOVDQA32(h.word(14), h.near[2])
			VMOVDQA32(h.word(15), h.near[3])
		}
		k.rounds(func(t int, constant Mem, last bool) {
			for _, h := range pair {
				if last {
					h.round(t, constant, h.word(t))
					continue
				}
				h.round(t, constant, h.near[t%4])
				h.extend(t)
			}
			if last {
				pair[t/4%2].transpose(t, next)
			}
		})
		for _, h := range pair {
			for i, r := range h.vars {
				VPADDD(h.value(i), r, r)
				VMOVDQU32(r, h.value(i))
			}
		}
	})
	VZEROUPPER()
	RET()
}

// value is word i of the state of the first lane; those of the others follow.
func (h *half) value(i int) Mem { return h.state.Offset(4 * (i*h.lanes + h.first)) }

func (h *half) word(t int) Mem { return h.words.Offset(64 * (t % 16)) }

// transpose is one of 16 steps, of which both halves have four, and then four again. In the
// first, each loads four blocks of the next chunk; in the second, each puts four words of
// all of them in their places. They are done between the last rounds of a chunk, so that
// the processor has what it needs for the next one before it is there.
func (h *half) transpose(step int, offset Register) {
	part := step % 4
	place := func(i int) Mem { return h.coming.Offset(64 * (4*i + part)) }
	if step < 8 {
		h.loadFour(h.first+4*part, offset, halfRow, halfOrder)
		interleave(halfRow, halfMix)
		place = func(i int) Mem { return h.coming.Offset(64 * (4*part + i)) }
	} else {
		VMOVDQA32(place(0), halfRow[0])
		VMOVDQA32(place(2), halfRow[2])
		exchange(halfRow, place(1), place(3), halfMix)
	}
	for i, r := range halfRow {
		VMOVDQA32(r, place(i))
	}
}

// round is round t of 16; constant is its own of the 64. It has one operation less than
// that of sixteen blocks, and a longer chain, for which there is time.
func (h *half) round(t int, constant Mem, word Op) {
	v := func(i int) VecPhysical { return h.vars[(i-t+64)%8] }
	a, b, c, d := v(0), v(1), v(2), v(3)
	e, f, g, hh := v(4), v(5), v(6), v(7)
	pick := halfTmp[3]
	VPADDD_BCST(constant, hh, hh)
	VPADDD(word, hh, hh)
	VMOVDQA32(e, pick)
	VPTERNLOGD(choose, g, f, pick)
	VPADDD(pick, hh, hh)
	sum1.of(e, halfTmp[:])
	VPADDD(halfTmp[0], hh, hh)
	VPADDD(hh, d, d)
	VMOVDQA32(a, pick)
	VPTERNLOGD(majority, c, b, pick)
	VPADDD(pick, hh, hh)
	sum0.of(a, halfTmp[:])
	VPADDD(halfTmp[0], hh, hh)
}

// extend replaces word t, which was used, by word t+16 of the schedule.
func (h *half) extend(t int) {
	now, next, far := h.near[t%4], h.near[(t+1)%4], h.near[(t+2)%4]
	VMOVDQA32(h.word(t+1), next)
	VPADDD(h.word(t+9), now, now)
	extend0.of(next, halfTmp[:])
	VPADDD(halfTmp[0], now, now)
	extend1.of(far, halfTmp[:])
	VPADDD(halfTmp[0], now, now)
	VMOVDQA32(now, h.word(t))
}
