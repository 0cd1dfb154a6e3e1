package host

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// program is the remote that starts a local program for each command: the ssh
// program of option ssh, or the shell of this machine.
type program struct {
	cfg    Config
	argv   func(command string) []string
	ssh    bool // exit code 255 is the ssh program's own
	closed chan struct{}
	once   sync.Once
}

// newSSHProgram runs commands through the words of option ssh.
func newSSHProgram(cfg Config) *program {
	argv := func(command string) []string {
		words := append([]string{optionPath(cfg.SSH[0])}, cfg.SSH[1:]...)
		if cfg.Port != "" {
			words = append(words, "-p", cfg.Port)
		}
		if cfg.User != "" {
			words = append(words, "-l", cfg.User)
		}
		return append(words, "--", cfg.Host, command)
	}
	return &program{cfg: cfg, argv: argv, ssh: true, closed: make(chan struct{})}
}

// newLocalShell runs commands on this machine, for helpers that sudo starts:
// finding, checking and storing the helper is the same as on any host.
func newLocalShell(cfg Config) *program {
	return &program{cfg: cfg, argv: localWords, closed: make(chan struct{})}
}

func (r *program) close() error {
	r.once.Do(func() { close(r.closed) })
	return nil
}

func (r *program) done() <-chan struct{} { return r.closed }

// unattended implements remote: what ssh asks is not known here, and each of its helpers has a
// connection of its own anyway.
func (r *program) unattended() bool { return false }

// run implements remote. Pipes are made here rather than by os/exec, whose
// Wait would close them while somebody still reads.
func (r *program) run(ctx context.Context, command string) (*process, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	words := r.argv(command)
	cmd := exec.Command(words[0], words[1:]...)
	childIn, stdin, err := os.Pipe()
	if err != nil {
		return nil, refuse(r.cfg.Host, "start "+words[0], KindProgram, "%w", err)
	}
	stdout, childOut, err := os.Pipe()
	if err != nil {
		_, _ = childIn.Close(), stdin.Close()
		return nil, refuse(r.cfg.Host, "start "+words[0], KindProgram, "%w", err)
	}
	stderr := &tail{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = childIn, childOut, stderr
	// A grandchild that keeps stderr open must not keep Wait waiting.
	cmd.WaitDelay = time.Second
	err = cmd.Start()
	_, _ = childIn.Close(), childOut.Close()
	if err != nil {
		_, _ = stdin.Close(), stdout.Close()
		return nil, refuse(r.cfg.Host, "start "+words[0], KindProgram, "%w: check the option ssh", err)
	}
	p := &process{stdin: stdin, stdout: stdout, stderr: stderr, exited: make(chan struct{})}
	p.kill = sync.OnceFunc(func() { cutOff(cmd.Process, p, stdout) })
	go func() {
		defer close(p.exited)
		if err := cmd.Wait(); !errors.Is(err, exec.ErrWaitDelay) {
			p.status = err
		}
	}()
	return p, nil
}

// cutOff ends a child that did not end by itself: its pipes go first, which is
// all that reaches a child of sudo, then TERM, then KILL.
func cutOff(child *os.Process, p *process, stdout io.Closer) {
	_, _ = p.stdin.Close(), stdout.Close()
	if p.wait(0) {
		return
	}
	if err := child.Signal(syscall.SIGTERM); err != nil {
		_ = child.Kill()
		return
	}
	if !p.wait(farewellWait) {
		_ = child.Kill()
	}
}

// sshFailed is the exit code by which ssh reports its own failures.
const sshFailed = 255

// explain implements remote. The exit code does not tell a refused key from a
// lost network; a repetition is worth its while only for the second.
func (r *program) explain(p *process) *Error {
	if !r.ssh || !p.wait(0) {
		return nil
	}
	var exit *exec.ExitError
	if !errors.As(p.status, &exit) || exit.ExitCode() != sshFailed {
		return nil
	}
	return &Error{Host: r.cfg.Host, Op: "connect with " + r.cfg.SSH[0], Kind: KindProgram,
		Retryable: reachedBefore.has(r.cfg), Err: errors.New(p.last(0))}
}

// reachedBefore remembers the configurations that have reached their host in this
// process: a later failure of theirs is more likely the network than a refusal.
var reachedBefore = &registry{keys: map[string]struct{}{}}

type registry struct {
	mu   sync.Mutex
	keys map[string]struct{} // hold mu
}

func (g *registry) add(cfg Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys[cfg.Key()] = struct{}{}
}

func (g *registry) has(cfg Config) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.keys[cfg.Key()]
	return ok
}
