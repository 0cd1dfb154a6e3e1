//go:build !linux

package device

// system has nothing to add: here only Linux tells more without opening a device.
func (p properties) system(Info) []Property { return p }
