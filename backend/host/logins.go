package host

import (
	"context"
	"sync"
)

// maxLogins is how many ssh programs may log in to one host at once: each makes a
// connection, and from ten on that have not logged in sshd drops some.
const maxLogins = 4

var (
	loginsMu sync.Mutex
	logins   = map[string]chan struct{}{} // by Config.Key; hold loginsMu
)

// loginsOf is the room for those who log in to a host, whatever connection they are of.
func loginsOf(cfg Config) chan struct{} {
	loginsMu.Lock()
	defer loginsMu.Unlock()
	key := cfg.Key()
	if logins[key] == nil {
		logins[key] = make(chan struct{}, maxLogins)
	}
	return logins[key]
}

// login waits until one more may log in. done is for when that is over.
func (d *deployer) login(ctx context.Context) (done func(), err error) {
	if d.logins == nil {
		return func() {}, nil
	}
	return enter(ctx, d.logins)
}
