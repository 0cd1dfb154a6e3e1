package helper

import "runtime"

// useShare has the process use the part of the processors that falls to one of so many
// sessions, until restore is called. Each has a process of its own, whose threads would
// wake each other on processors that the others keep busy: with two processors and four
// sessions that is a tenth of the time of a copy.
func (p Policy) useShare(sessions uint8) (restore func()) {
	all := runtime.GOMAXPROCS(0)
	part := (all + int(sessions) - 1) / max(int(sessions), 1)
	if !p.Alone || sessions < 2 || part == all {
		return func() {}
	}
	runtime.GOMAXPROCS(part)
	return func() { runtime.GOMAXPROCS(all) }
}
