package main

import (
	"errors"
	"os"
)

// stream joins standard input and output. Close ends a pending Read.
type stream struct{ in, out *os.File }

func (s *stream) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *stream) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *stream) Close() error                { return errors.Join(s.in.Close(), s.out.Close()) }
