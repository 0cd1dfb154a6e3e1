package host

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// try tells whether one more hash may run now.
func try(t *testing.T, h *Host, rotational bool) (done func(), ok bool) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		done, err = h.Hashing(ctx, rotational)
	}()
	synctest.Wait()
	cancel(enough)
	<-ended
	if err != nil && !errors.Is(err, enough) {
		t.Fatal(err)
	}
	return done, err == nil
}

func TestHost_Hashing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(Config{Host: "h", HashLimit: 2})
		spindle, ok := try(t, h, true)
		if !ok {
			t.Fatal("the first has to wait")
		}
		if _, ok := try(t, h, true); ok {
			t.Error("two rotational disks are hashed at once")
		}
		flash, ok := try(t, h, false)
		if !ok {
			t.Error("the second has to wait")
		}
		if _, ok := try(t, h, false); ok {
			t.Error("three run where two may")
		}
		spindle()
		if _, ok := try(t, h, true); !ok {
			t.Error("what has ended is still counted")
		}
		if _, ok := try(t, h, false); ok {
			t.Error("three run where two may")
		}
		flash()
		if _, ok := try(t, h, false); !ok {
			t.Error("what has ended is still counted")
		}
	})
}

// One is the least: with none at all a hash would wait for ever.
func TestHost_HashingOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(Config{Host: "h", HashLimit: -1})
		if _, ok := try(t, h, true); !ok {
			t.Error("the first has to wait")
		}
	})
}
