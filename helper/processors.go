package helper

import "runtime"

// useShare has the process use the part of the processors that falls to one of so many
// sessions, until restore is called. Each has a process of its own, whose threads would
// wake each other on processors that the others keep busy. It reads as much at once as
// with all of them.
func (p Policy) useShare(sessions uint8) (restore func()) {
	all := runtime.GOMAXPROCS(0)
	part := (all + int(sessions) - 1) / max(int(sessions), 1)
	if !p.Alone || sessions < 2 || part == all {
		return func() {}
	}
	runtime.GOMAXPROCS(part)
	return func() { runtime.GOMAXPROCS(all) }
}
