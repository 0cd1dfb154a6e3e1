//go:build !race

package delta

// None; the rest is for a garbage collection that empties a pool at the wrong time.
const allocationsPerExtent = 0.25
