package wire

import "fmt"

// Code says what kind of failure an Error is. Codes cross the wire; text is for
// people. A Code is an error itself, so that errors.Is(err, wire.CodeBusy) holds
// for an Error with that code.
type Code uint16

// The codes. Numbers are never reused.
const (
	CodeNotFound     Code = 1
	CodeNotFile      Code = 2  // neither block device nor regular file
	CodeBusy         Code = 3  // held by a mount, another program, another transfer
	CodeReadOnly     Code = 4  // device or policy
	CodeRefused      Code = 5  // against a safety rule or the policy
	CodeSizeMismatch Code = 6  //
	CodeNoSpace      Code = 7  //
	CodeIO           Code = 8  // input/output error of a device
	CodePermission   Code = 9  //
	CodeUnsupported  Code = 10 // not on this system or in this version
	CodeProtocol     Code = 11 // the peer broke the protocol
	CodeVersion      Code = 12 //
	CodeCancelled    Code = 13 //
	CodeCorrupted    Code = 14 // content does not match its digest
	CodeIsDir        Code = 15 //
	CodeNotEmpty     Code = 16 // directory
	CodeInternal     Code = 17 // a defect of ours, or an error with no other code
	CodeSource       Code = 18 // the source gave too little, too much or an error
	CodeIdentity     Code = 19 // the target is not the device that is expected
)

var codeText = map[Code]string{
	CodeNotFound: "not found", CodeNotFile: "not a block device or regular file",
	CodeBusy: "busy", CodeReadOnly: "read-only", CodeRefused: "refused",
	CodeSizeMismatch: "size mismatch", CodeNoSpace: "no space left", CodeIO: "input/output error",
	CodePermission: "permission denied", CodeUnsupported: "not supported",
	CodeProtocol: "protocol error", CodeVersion: "version mismatch", CodeCancelled: "cancelled",
	CodeCorrupted: "corrupted", CodeIsDir: "is a directory", CodeNotEmpty: "directory not empty",
	CodeInternal: "internal error", CodeSource: "source failed", CodeIdentity: "another device",
}

func (c Code) Error() string {
	if s, ok := codeText[c]; ok {
		return s
	}
	return fmt.Sprintf("error code %d", uint16(c))
}

// Error ends a request that failed.
type Error struct {
	Code   Code
	Offset int64  // byte of the device, -1 where there is none
	Text   string // one line naming object, cause and remedy
}

// Errorf makes an Error without an offset. Its text is cut to what may be sent.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Offset: -1, Text: Clip(fmt.Sprintf(format, args...))}
}

func (e *Error) Error() string { return e.Text }

// Is makes errors.Is(err, code) true for an Error with that code.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == e.Code
}
