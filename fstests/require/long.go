package require

import "flag"

// long makes tests of chance run as often as they are meant to. Without it they run a few times, which takes seconds.
// It is here since every test binary of fstests has this package: "go test ./fstests/... -long" must be known to all.
var long = flag.Bool("long", false, "run the tests of chance and of load as often as they are meant to: an hour")

// Long tells whether the tests of chance run as often as they are meant to.
func Long() bool { return *long }
