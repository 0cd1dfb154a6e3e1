package device

import (
	"errors"
	"io"
	"os"
	"testing"
)

func TestUnreadable(t *testing.T) {
	failed := func(op string, err error) error {
		return failSpan(op, "/x", 4096, 512, &os.PathError{Op: op, Path: "/x", Err: err})
	}
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"a bad sector", failed("read", errors.New("bad")), true},
		{"a write", failed("write", errors.New("bad")), false},
		{"a device that is gone", failed("read", goneErrnos[0]), false},
		{"cut", &Error{Op: "read", Path: "/x", Kind: ErrIO, Err: io.ErrUnexpectedEOF}, false},
		{"a refusal", refuse(ErrRefused, "read", "/x", "no"), false},
		{"another error", errors.New("bad"), false},
		{"none", nil, false},
	} {
		if got := Unreadable(tt.err); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
