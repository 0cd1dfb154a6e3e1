// Two blocks in turn by the SHA-2 instructions, which have latency but are
// pipelined: while one block waits, the other goes on. This file is written by
// hand, since avo knows no arm64.

#include "textflag.h"

DATA roundConstants<>+0(SB)/8, $0x71374491428a2f98
DATA roundConstants<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA roundConstants<>+16(SB)/8, $0x59f111f13956c25b
DATA roundConstants<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA roundConstants<>+32(SB)/8, $0x12835b01d807aa98
DATA roundConstants<>+40(SB)/8, $0x550c7dc3243185be
DATA roundConstants<>+48(SB)/8, $0x80deb1fe72be5d74
DATA roundConstants<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA roundConstants<>+64(SB)/8, $0xefbe4786e49b69c1
DATA roundConstants<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA roundConstants<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA roundConstants<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA roundConstants<>+96(SB)/8, $0xa831c66d983e5152
DATA roundConstants<>+104(SB)/8, $0xbf597fc7b00327c8
DATA roundConstants<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA roundConstants<>+120(SB)/8, $0x1429296706ca6351
DATA roundConstants<>+128(SB)/8, $0x2e1b213827b70a85
DATA roundConstants<>+136(SB)/8, $0x53380d134d2c6dfc
DATA roundConstants<>+144(SB)/8, $0x766a0abb650a7354
DATA roundConstants<>+152(SB)/8, $0x92722c8581c2c92e
DATA roundConstants<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA roundConstants<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA roundConstants<>+176(SB)/8, $0xd6990624d192e819
DATA roundConstants<>+184(SB)/8, $0x106aa070f40e3585
DATA roundConstants<>+192(SB)/8, $0x1e376c0819a4c116
DATA roundConstants<>+200(SB)/8, $0x34b0bcb52748774c
DATA roundConstants<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA roundConstants<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA roundConstants<>+224(SB)/8, $0x78a5636f748f82ee
DATA roundConstants<>+232(SB)/8, $0x8cc7020884c87814
DATA roundConstants<>+240(SB)/8, $0xa4506ceb90befffa
DATA roundConstants<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL roundConstants<>(SB), NOPTR|RODATA, $256

// Registers, of the first and the second block:
//
//	V0 V1   V6 V7     state before the chunk: a b c d, e f g h
//	V2 V3   V8 V9     state in the chunk
//	V4      V10       a b c d before four rounds
//	V5      V11       words plus constants
//	V16-19  V20-23    words
//
// and V24 to V27 hold constants of 16 rounds.

// FOUR is four rounds with the words p and q.
#define FOUR(k, p, q) \
	VADD	k.S4, p.S4, V5.S4 \
	VADD	k.S4, q.S4, V11.S4 \
	VMOV	V2.B16, V4.B16 \
	VMOV	V8.B16, V10.B16 \
	SHA256H	V5.S4, V3, V2 \
	SHA256H	V11.S4, V9, V8 \
	SHA256H2	V5.S4, V4, V3 \
	SHA256H2	V11.S4, V10, V9

// NEXT replaces the words p0 and q0 by those 16 later.
#define NEXT(p0, p1, p2, p3, q0, q1, q2, q3) \
	SHA256SU0	p1.S4, p0.S4 \
	SHA256SU0	q1.S4, q0.S4 \
	SHA256SU1	p3.S4, p2.S4, p0.S4 \
	SHA256SU1	q3.S4, q2.S4, q0.S4

// func compressSHA2(state *[256]uint32, blocks *[32]*byte, chunks int)
TEXT ·compressSHA2(SB), NOSPLIT, $0-24
	MOVD	state+0(FP), R0
	MOVD	blocks+8(FP), R1
	MOVD	chunks+16(FP), R3
	LDP	(R1), (R1, R2)
	ADD	$32, R0, R4
	VLD1	(R0), [V0.S4, V1.S4]
	VLD1	(R4), [V6.S4, V7.S4]

chunk:
	MOVD	$roundConstants<>(SB), R5
	MOVD	$3, R6
	VLD1.P	64(R1), [V16.B16, V17.B16, V18.B16, V19.B16]
	VLD1.P	64(R2), [V20.B16, V21.B16, V22.B16, V23.B16]
	VREV32	V16.B16, V16.B16
	VREV32	V20.B16, V20.B16
	VREV32	V17.B16, V17.B16
	VREV32	V21.B16, V21.B16
	VREV32	V18.B16, V18.B16
	VREV32	V22.B16, V22.B16
	VREV32	V19.B16, V19.B16
	VREV32	V23.B16, V23.B16
	VMOV	V0.B16, V2.B16
	VMOV	V1.B16, V3.B16
	VMOV	V6.B16, V8.B16
	VMOV	V7.B16, V9.B16

sixteen:
	VLD1.P	64(R5), [V24.S4, V25.S4, V26.S4, V27.S4]
	FOUR(V24, V16, V20)
	NEXT(V16, V17, V18, V19, V20, V21, V22, V23)
	FOUR(V25, V17, V21)
	NEXT(V17, V18, V19, V16, V21, V22, V23, V20)
	FOUR(V26, V18, V22)
	NEXT(V18, V19, V16, V17, V22, V23, V20, V21)
	FOUR(V27, V19, V23)
	NEXT(V19, V16, V17, V18, V23, V20, V21, V22)
	SUB	$1, R6
	CBNZ	R6, sixteen

	VLD1	(R5), [V24.S4, V25.S4, V26.S4, V27.S4]
	FOUR(V24, V16, V20)
	FOUR(V25, V17, V21)
	FOUR(V26, V18, V22)
	FOUR(V27, V19, V23)

	VADD	V2.S4, V0.S4, V0.S4
	VADD	V3.S4, V1.S4, V1.S4
	VADD	V8.S4, V6.S4, V6.S4
	VADD	V9.S4, V7.S4, V7.S4
	SUB	$1, R3
	CBNZ	R3, chunk

	VST1	[V0.S4, V1.S4], (R0)
	VST1	[V6.S4, V7.S4], (R4)
	RET
