package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The SHA instructions have latency but are pipelined, so several blocks in turn
// take little more time than one. They keep the state of a block in two
// registers, whose words are, from the lowest, F E B A and H G D C; the callers
// of the kernels keep it in this order, too. X0 is an implicit operand.

// interleavedSSE does two blocks with nothing but SSE and SHA instructions. All
// 16 words of both blocks are in registers.
func interleavedSSE() {
	k := begin("compressSHANI2", "compressSHANI2 goes on with the digests of two blocks. It needs SHA, SSSE3 and SSE4.1.", 2)
	state := [2][2]VecPhysical{{X1, X2}, {X7, X8}}
	words := [2][4]VecPhysical{{X3, X4, X5, X6}, {X9, X10, X11, X12}}
	order, tmp := X13, [2]VecPhysical{X14, X15}
	MOVOU(swap, order)
	for l := range k.lanes {
		MOVOU(k.state.Offset(32*l), state[l][0])
		MOVOU(k.state.Offset(32*l+16), state[l][1])
	}
	k.loop(func() {
		for g := range 16 { // four rounds each
			for l := range k.lanes {
				feba, hgdc, w, t := state[l][0], state[l][1], words[l], tmp[l]
				now, before, next := w[g%4], w[(g+3)%4], w[(g+1)%4]
				if g < 4 {
					MOVOU(k.data(l, 16*g), now)
					PSHUFB(order, now)
				}
				MOVOU(table.Offset(16*g), X0)
				PADDL(now, X0)
				SHA256RNDS2(X0, feba, hgdc)
				PSHUFD(U8(0x0e), X0, X0)
				SHA256RNDS2(X0, hgdc, feba)
				if g >= 3 && g < 15 {
					MOVOA(now, t)
					PALIGNR(U8(4), before, t)
					PADDL(t, next)
					SHA256MSG2(now, next)
				}
				if g >= 1 && g < 13 {
					SHA256MSG1(now, before)
				}
			}
		}
		for l := range k.lanes {
			for i, r := range state[l] {
				saved := k.state.Offset(32*l + 16*i)
				MOVOU(saved, tmp[l])
				PADDL(tmp[l], r)
				MOVOU(r, saved)
			}
		}
	})
	RET()
}

// interleavedVL does four blocks. The SHA instructions only reach X0 to X15, too
// few for the words of four blocks: only the newest four words of a block are
// there, and the twelve before are parked in the upper registers.
func interleavedVL() {
	k := begin("compressSHANI4", "compressSHANI4 goes on with the digests of four blocks. It needs SHA, AVX512VL and AVX512BW.", 4)
	state := [4][2]VecPhysical{{X1, X2}, {X3, X4}, {X5, X6}, {X7, X8}}
	free := []VecPhysical{X9, X10, X11, X12, X13, X14, X15}
	take := func() VecPhysical {
		r := free[0]
		free = free[1:]
		return r
	}
	parked := [4][3]VecPhysical{{X16, X17, X18}, {X19, X20, X21}, {X22, X23, X24}, {X25, X26, X27}}
	order, high := X28, [2]VecPhysical{X29, X30}
	VZEROUPPER()
	VMOVDQU32(swap, order)
	for l := range k.lanes {
		VMOVDQU(k.state.Offset(32*l), state[l][0])
		VMOVDQU(k.state.Offset(32*l+16), state[l][1])
	}
	k.loop(func() {
		var now [4]VecPhysical
		for g := range 16 { // four rounds each
			for l := range k.lanes {
				feba, hgdc := state[l][0], state[l][1]
				// Group g-3 is in the slot of group g, and leaves it in time.
				slot, before := parked[l][g%3], parked[l][(g+2)%3]
				if g < 4 {
					now[l] = take()
					VMOVDQU(k.data(l, 16*g), now[l])
					VPSHUFB(order, now[l], now[l])
				}
				VPADDD(table.Offset(16*g), now[l], X0)
				SHA256RNDS2(X0, feba, hgdc)
				VPSHUFD(U8(0x0e), X0, X0)
				SHA256RNDS2(X0, hgdc, feba)
				next := VecPhysical(nil)
				if g >= 3 && g < 15 {
					next = take()
					VPALIGNR(U8(4), before, now[l], high[l%2])
					VPADDD(slot, high[l%2], next)
					SHA256MSG2(now[l], next)
				}
				if g >= 1 && g < 13 {
					t := take()
					VMOVDQA32(before, t)
					SHA256MSG1(now[l], t)
					VMOVDQA32(t, before)
					free = append(free, t)
				}
				if g < 14 {
					VMOVDQA32(now[l], slot)
				}
				free = append(free, now[l])
				now[l] = next
			}
		}
		for l := range k.lanes {
			for i, r := range state[l] {
				saved := k.state.Offset(32*l + 16*i)
				VPADDD(saved, r, r)
				VMOVDQU(r, saved)
			}
		}
	})
	VZEROUPPER()
	RET()
}
