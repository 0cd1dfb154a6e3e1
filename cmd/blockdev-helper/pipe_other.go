//go:build unix && !linux

package main

import (
	"io"
	"os"
)

// enlargePipe has nothing to do: only Linux lets a program set the size.
func enlargePipe(*os.File) {}

// outlet is f.
func outlet(f *os.File) (io.WriteCloser, error) { return f, nil }
