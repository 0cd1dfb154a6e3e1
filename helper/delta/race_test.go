//go:build race

package delta

// Under the race detector a pool drops a part of what it is given.
const allocationsPerExtent = 10
