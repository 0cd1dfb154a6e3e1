package sha256x

import (
	"os"
)

// Variable is the environment variable that names the kernel to use, for tests
// and measurements: one of Kernels, or "generic" for one block after the other.
const Variable = "BLOCKDEV_SHA256"

const generic = "generic"

// kernel is an implementation that takes several blocks at once.
type kernel struct {
	name      string
	lanes     int // blocks at once
	least     int // blocks from which on it is quicker than what follows it in the table
	available bool

	// Word i of lane l of the state is at word[i] + l*lane.
	word [8]int
	lane int

	// compress takes in the next chunks of each block, at least one.
	compress func(state *[8 * maxLanes]uint32, blocks *[maxLanes]*byte, chunks int)
}

var chosen = choose(os.Getenv(Variable))

// choose is the plan for a value of Variable. A kernel that this processor does
// not have would end the program, so it counts as generic, as a wrong name does.
func choose(name string) []*kernel {
	var plan []*kernel
	for i := range kernels {
		if k := &kernels[i]; k.available && (name == "" || name == k.name) {
			plan = append(plan, k)
		}
	}
	return plan
}

// Kernels are the names of the kernels that this processor has, the best first.
func Kernels() []string {
	var names []string
	for _, k := range choose("") {
		names = append(names, k.name)
	}
	return append(names, generic)
}

// Kernel is the name of the one that is used for most blocks.
func Kernel() string {
	if len(chosen) == 0 {
		return generic
	}
	return chosen[0].name
}
