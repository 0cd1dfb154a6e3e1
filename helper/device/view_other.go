//go:build !linux

package device

// View reports that nothing can be seen without reading it.
func (o *Object) View(off int64, n int, use func(data []byte)) (seen bool) { return false }
