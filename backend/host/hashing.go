package host

import "context"

// limits is how much may be done on a host at once.
type limits struct {
	hashes  chan struct{} // has room for the hashes that may run
	spindle chan struct{} // has room for one: seeking costs more than it gains
}

func newLimits(cfg Config) limits {
	return limits{make(chan struct{}, max(cfg.HashLimit, 1)), make(chan struct{}, 1)}
}

// Hashing waits until one more hash may run on the host: at most cfg.HashLimit
// at once, and one of those on rotational disks. done ends it.
func (h *Host) Hashing(ctx context.Context, rotational bool) (done func(), err error) {
	if !rotational {
		return enter(ctx, h.limits.hashes)
	}
	leaveSpindle, err := enter(ctx, h.limits.spindle)
	if err != nil {
		return nil, err
	}
	leave, err := enter(ctx, h.limits.hashes)
	if err != nil {
		leaveSpindle()
		return nil, err
	}
	return func() { leave(); leaveSpindle() }, nil
}

func enter(ctx context.Context, room chan struct{}) (leave func(), err error) {
	select {
	case room <- struct{}{}:
		return func() { <-room }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
