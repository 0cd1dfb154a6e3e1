package main

import (
	"errors"
	"io"
	"os"
)

// stream joins standard input and output. Close ends a pending Read or Write.
type stream struct {
	in  *os.File
	out io.WriteCloser
}

func (s *stream) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *stream) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *stream) Close() error                { return errors.Join(s.in.Close(), s.out.Close()) }
