package block

import "sync"

var buffers = sync.Pool{New: func() any {
	b := make([]byte, ExtentSize)
	return &b
}}

// GetBuffer gives memory for the bytes of an extent, which holds anything. PutBuffer takes
// it back for whoever asks next, in whatever transfer of this process.
func GetBuffer() *[]byte { return buffers.Get().(*[]byte) }

// PutBuffer gives back what came from GetBuffer and nobody refers to any more.
func PutBuffer(b *[]byte) { buffers.Put(b) }
