//go:build linux

// Command exec runs a program inside a virtual machine and ends with its exit code. It is made for the go tool:
//
//	go build -o /tmp/vm-exec ./fstests/vm/exec
//	CGO_ENABLED=0 go test -exec /tmp/vm-exec ./helper/device
//
// Variables whose names begin with BLOCKDEV_TEST_ are passed on. Files beside the program are not there, and nothing
// of this machine can be reached or harmed from inside.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/vm"
)

func main() {
	vm.Guest()
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: exec PROGRAM [ARGUMENT...]")
		os.Exit(2)
	}
	c := vm.Command{Path: os.Args[1], Args: os.Args[2:]}
	for _, line := range os.Environ() {
		if strings.HasPrefix(line, "BLOCKDEV_TEST_") {
			c.Env = append(c.Env, line)
		}
	}
	code, err := vm.Run(context.Background(), "/proc/self/exe", c, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
	os.Exit(code)
}
