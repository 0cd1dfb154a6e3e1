// Package helper is the end of the protocol that runs where the devices are: it
// serves the requests of one client over one byte stream. The same code serves
// a remote host, behind ssh, and the local one, behind a pipe in the process.
//
// Package wire is the language, package device opens and refuses, package delta
// moves differences; this package joins them and adds the policy. It never
// imports rclone.
package helper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/rclone-blockdev/rclone-blockdev/helper/device"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// Policy is what a helper allows, whoever asks.
type Policy struct {
	// Allow lists the files, devices and directories that may be named, with
	// all that is below them. Empty allows everything.
	Allow []string
	// ReadOnly refuses everything that changes something.
	ReadOnly bool
	// AllowSnapshots and AllowHooks let a helper with any of the above take
	// snapshots and freeze, and run programs that the client names.
	AllowSnapshots, AllowHooks bool
	// Alone says that the process does nothing but serve this session, so that a
	// client may have it use fewer processors.
	Alone bool
}

// Serve speaks the protocol over rw until the client closes it, and then
// returns nil; or until the client breaks the protocol, or ctx ends. It closes
// rw, which must end a pending Read, and returns when all its goroutines have. A
// target that was open is left as it is, to be continued by a later session.
func Serve(ctx context.Context, rw io.ReadWriteCloser, p Policy) error {
	outer := ctx
	ctx, cancel := context.WithCancelCause(outer)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { rw.Close() })() // ends what waits for the client
	in := wire.NewSilence(rw, wire.AliveLimit, func() { cancel(errSilent) })
	s := &session{
		r:        wire.NewReader(in),
		in:       in,
		w:        wire.NewWriter(rw),
		policy:   p,
		requests: make(chan *request, 1+maxAhead),
		done:     ctx.Done(),
	}
	if err := s.greet(); err != nil {
		rw.Close()
		return cmp.Or(context.Cause(ctx), err)
	}
	var pulse sync.WaitGroup
	defer pulse.Wait()
	if s.pulsed() {
		pulse.Go(func() { s.w.Pulse(s.done) })
	}
	reading := make(chan error, 1)
	go func() {
		err := s.read(ctx)
		cancel(err)
		reading <- err
	}()
	s.handle(ctx)
	cancel(errGone) // also when the client did not take a reply
	rw.Close()
	if err := <-reading; !errors.Is(err, errGone) {
		return err
	}
	if err := context.Cause(ctx); errors.Is(err, errSilent) {
		return err
	}
	return context.Cause(outer)
}

// errSilent ends a session whose client says nothing any more: its program or host may
// be gone without a word, and what is open is not held for it any longer.
var errSilent = fmt.Errorf("nothing came from the client for %v", wire.AliveLimit)

// errGone ends the requests of a client that closed its stream.
var errGone = errors.New("the client is gone")

// Hello describes this program and the host it runs on.
func Hello() *wire.Hello {
	h := &wire.Hello{Version: wire.Version, Features: wire.FeatureAlive, OS: runtime.GOOS, Arch: runtime.GOARCH}
	h.Build, h.BootID = Version(), bootID()
	if device.SharedClaim {
		h.Features |= wire.FeatureSharedClaim
	}
	if device.Witnesses {
		h.Features |= wire.FeatureTrust
	}
	return h
}

// version is set by the linker for a release, whose packer leaves out what the go tool
// knows of the repository: -X github.com/rclone-blockdev/rclone-blockdev/helper.version=v1.2.3
var version string

// Version is that of the release, or of the module that the program was built from.
func Version() string {
	const module = "github.com/rclone-blockdev/rclone-blockdev"
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path == module {
		return info.Main.Version
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return m.Version
		}
	}
	return "unknown"
}

// bootID is what Linux says of the current boot, and empty elsewhere.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// check returns the path that a request may use, or the refusal. Paths are
// absolute; what they lead to through links is the device package's to judge.
func (p Policy) check(path string, write bool) (string, error) {
	path = filepath.Clean(native(path))
	if !filepath.IsAbs(path) {
		return "", wire.Errorf(wire.CodeRefused, "%s: not an absolute path", path)
	}
	if write && p.ReadOnly {
		return "", wire.Errorf(wire.CodeReadOnly, "%s: the helper on this host was started with --read-only", path)
	}
	if len(p.Allow) == 0 {
		return path, nil
	}
	for _, a := range p.Allow {
		if within(path, filepath.Clean(a)) {
			return path, p.checkLink(path)
		}
	}
	return "", p.refusal(path)
}

// native is path as this system writes it: below the root of a host, Windows has
// its drives, as in /C:/disk.img.
func native(path string) string {
	path = filepath.FromSlash(path)
	if rest := strings.TrimPrefix(path, `\`); filepath.VolumeName(rest) != "" {
		return rest
	}
	return path
}

// checkLink refuses an allowed name that leads elsewhere through links. Links to
// block devices are what names like /dev/vg0/vm are made of: only the directory
// of such a name must be allowed.
func (p Policy) checkLink(path string) error {
	if p.leadsTo(resolve(path)) {
		return nil
	}
	if info, err := device.Stat(path); err == nil && info.Kind == device.Block && p.leadsTo(resolve(filepath.Dir(path))) {
		return nil
	}
	return p.refusal(path)
}

// leadsTo tells whether real, a path without links, is allowed.
func (p Policy) leadsTo(real string) bool {
	return slices.ContainsFunc(p.Allow, func(a string) bool { return within(real, resolve(filepath.Clean(a))) })
}

// resolve is path without links, as far as it exists: what is to be made must
// not be made elsewhere through a link above it.
func resolve(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if up := filepath.Dir(path); err != nil && up != path {
		return filepath.Join(resolve(up), filepath.Base(path))
	}
	if err != nil {
		return path
	}
	return real
}

func (p Policy) refusal(path string) error {
	return wire.Errorf(wire.CodeRefused, "%s: the helper on this host allows only %s", path, strings.Join(p.Allow, ", "))
}

// within tells whether path is dir or below it. Both are clean.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
