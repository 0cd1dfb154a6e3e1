//go:build !unix

package witness

import "errors"

var errUnsupported = errors.New("this system does not tell whether anybody has written to a target")

func stateDir() (string, error)      { return "", errUnsupported }
func read(string) (record, error)    { return record{}, errUnsupported }
func readOwn(string) ([]byte, error) { return nil, errUnsupported }
func note(string, string)            {}
func remove(string) error            { return errUnsupported }
func store(string, []byte) error     { return errUnsupported }
