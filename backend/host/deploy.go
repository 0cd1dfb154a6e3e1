package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/lib/env"

	"github.com/rclone-blockdev/rclone-blockdev/helper/bundle"
)

// remote runs commands on a host.
type remote interface {
	// run starts a command line under the user's login shell. ctx limits the
	// start only.
	run(ctx context.Context, command string) (*process, error)
	// explain turns the early end of a command into an error, where the way it
	// ended tells more about the connection than about the helper.
	explain(p *process) *Error
	// unattended tells that one more connection like this one asks nobody for anything.
	unattended() bool
	close() error
	done() <-chan struct{}
}

// maxCandidates bounds the directories tried for one upload.
const maxCandidates = 5

// deployer is the Conn for every kind of remote: it starts helpers and puts
// them on the host when they are missing.
type deployer struct {
	cfg     Config
	remote  remote
	entries func() ([]bundle.Entry, error)
	open    func(os, arch string) (bundle.Helper, error)
	timeout time.Duration // for the helper's first words; 0 means none
	logins  chan struct{} // room for those who log in; nil where nobody has to

	mu       sync.Mutex           // hold for what follows, up to closed
	streams  map[*Stream]struct{} // open ones
	intact   string               // path of a helper; empty when none was found
	found    time.Time            // when intact was
	closed   bool
	uploadMu sync.Mutex // hold while uploading
	uploads  int        // completed ones; hold uploadMu
}

func newDeployer(cfg Config, r remote) *deployer {
	d := &deployer{cfg: cfg, remote: r, entries: bundle.Entries, open: bundle.Open, streams: map[*Stream]struct{}{}}
	p, isProgram := r.(*program)
	if !isProgram {
		// A program may be waiting for its user, the built-in SSH is not.
		d.timeout = helperTimeout
	}
	if isProgram && p.ssh {
		d.logins = loginsOf(cfg)
	}
	return d
}

// helperTimeout is how long a logged-in host may take to start the helper.
// Slow login scripts are common, minutes are not.
const helperTimeout = 60 * time.Second

// Start implements Conn.
func (d *deployer) Start(ctx context.Context) (*Stream, error) {
	if d.cfg.HelperPath != "" {
		stream, answer, err := d.attempt(ctx, installedCommand(d.cfg))
		if err == nil && stream == nil {
			err = refuse(d.cfg.Host, "start helper", KindDeploy, "%s answered %q instead of starting: check helper_path", d.cfg.HelperPath, answer.verb)
		}
		return stream, err
	}
	entries, err := d.entries()
	if err != nil {
		return nil, refuse(d.cfg.Host, "start helper", KindDeploy, "%w", err)
	}
	if path := d.foundLately(); path != "" {
		stream, _, err := d.attempt(ctx, againCommand(d.cfg, path))
		var failed *Error
		if stream != nil || err != nil && !(errors.As(err, &failed) && (failed.Kind == KindDeploy || failed.Kind == KindSudo)) {
			return stream, err
		}
		d.noteIntact("") // it is gone, or broken, which sudo reports by itself
	}
	uploads := d.uploadCount()
	stream, answer, err := d.attempt(ctx, runCommand(d.cfg, entries, uploads > 0))
	if err != nil || stream != nil {
		return stream, err
	}
	if err := d.provide(ctx, answer, uploads); err != nil {
		return nil, err
	}
	stream, answer, err = d.attempt(ctx, runCommand(d.cfg, entries, true))
	if err == nil && stream == nil {
		err = refuse(d.cfg.Host, "start helper", KindDeploy, "the helper was stored but is %s now: check that nothing cleans its directory, or set helper_dir", answer.verb)
	}
	return stream, err
}

// Close implements Conn.
func (d *deployer) Close() error {
	d.mu.Lock()
	d.closed = true
	streams := d.streams
	d.streams = nil
	d.mu.Unlock()
	var wg sync.WaitGroup
	for s := range streams {
		wg.Go(func() { _ = s.Close() })
	}
	wg.Wait()
	return d.remote.close()
}

// Unattended implements Conn.
func (d *deployer) Unattended() bool { return d.remote.unattended() }

// Done implements Conn.
func (d *deployer) Done() <-chan struct{} { return d.remote.done() }

// lately is how long a helper that was found intact is started again without looking.
const lately = time.Minute

// foundLately is the path of a helper that was found intact on this connection, or
// nothing.
func (d *deployer) foundLately() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.found) > lately {
		return ""
	}
	return d.intact
}

func (d *deployer) noteIntact(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.intact, d.found = path, time.Now()
}

func (d *deployer) uploadCount() int {
	d.uploadMu.Lock()
	defer d.uploadMu.Unlock()
	return d.uploads
}

// attempt runs a command that should become the helper. Neither stream nor
// error means that a script answered instead.
func (d *deployer) attempt(ctx context.Context, command string) (*Stream, reply, error) {
	if d.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d.timeout, errNoAnswer)
		defer cancel()
	}
	loggedIn, err := d.login(ctx)
	if err != nil {
		return nil, reply{}, err
	}
	defer loggedIn()
	p, err := d.remote.run(ctx, command)
	if err != nil {
		return nil, reply{}, d.failed(ctx, nil, err)
	}
	stop := context.AfterFunc(ctx, p.kill)
	input, answer, err := awaitSpeaker(p.stdout)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		err = d.failed(ctx, p, err)
		p.stop()
		return nil, reply{}, err
	}
	if input == nil {
		p.stop()
		return nil, answer, nil
	}
	if answer.verb == replyStarts {
		d.noteIntact(answer.detail)
	}
	s, err := d.adopt(p, input)
	return s, reply{}, err
}

// errNoAnswer is the cause of a start that took too long.
var errNoAnswer = errors.New("the helper did not answer in time: check the login scripts of the host")

func (d *deployer) adopt(p *process, input io.Reader) (*Stream, error) {
	s := &Stream{input: input, proc: p}
	s.ended = func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.streams, s)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		p.kill()
		return nil, transient(d.cfg.Host, "start helper", KindLost, "the connection was closed meanwhile")
	}
	d.streams[s] = struct{}{}
	reachedBefore.add(d.cfg)
	return s, nil
}

// failed explains why a command did not become a helper.
func (d *deployer) failed(ctx context.Context, p *process, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errNoAnswer) {
		return transient(d.cfg.Host, "start helper", KindTimeout, "%w", cause)
	} else if cause != nil {
		return cause
	}
	var known *Error
	if p == nil || errors.As(err, &known) {
		return err
	}
	said := p.last(diagnosisWait)
	if e := d.remote.explain(p); e != nil {
		return e
	}
	switch {
	case d.cfg.Sudo:
		instead := "log in as root"
		if d.cfg.Host == Localhost {
			instead = "become root"
		}
		return refuse(d.cfg.Host, "start helper", KindSudo,
			"sudo did not run the helper: %s; allow it without a password (sudoers line: \"%s ALL=(root) NOPASSWD: %s\"; of doas.conf: \"permit nopass %[2]s as root%[4]s\"), or %[5]s and leave sudo off",
			said, d.userName(), d.sudoCommand(), d.doasCommand(), instead)
	case d.cfg.HelperPath != "":
		return refuse(d.cfg.Host, "start helper", KindDeploy, "helper_path %s did not start: %s", d.cfg.HelperPath, said)
	case errors.Is(err, errSilent):
		return refuse(d.cfg.Host, "start helper", KindDeploy, "%w: %s", err, said)
	}
	return refuse(d.cfg.Host, "start helper", KindDeploy, "%w", err)
}

func (d *deployer) userName() string {
	if d.cfg.User == "" && d.cfg.Host == Localhost {
		return env.CurrentUser()
	}
	return first(d.cfg.User, "USER")
}

// sudoCommand is what sudo must allow: an uploaded helper has another name in
// each release, an installed one has not.
func (d *deployer) sudoCommand() string {
	if strings.HasPrefix(d.cfg.HelperPath, "/") {
		return d.cfg.HelperPath + " serve"
	}
	return "ALL"
}

// doasCommand is what the line of doas.conf has for it.
func (d *deployer) doasCommand() string {
	if strings.HasPrefix(d.cfg.HelperPath, "/") {
		return " cmd " + d.cfg.HelperPath + " args serve"
	}
	return ""
}

// provide puts the helper on the host, unless another start on this connection
// has done so since it had counted uploads.
func (d *deployer) provide(ctx context.Context, answer reply, uploads int) error {
	platform, uname, _ := strings.Cut(answer.detail, " ")
	os, arch, _ := strings.Cut(platform, "/")
	d.uploadMu.Lock()
	defer d.uploadMu.Unlock()
	if d.uploads != uploads {
		return nil
	}
	helper, err := d.open(os, arch)
	switch {
	case err != nil && uname != "":
		return refuse(d.cfg.Host, "start helper", KindDeploy, "the host is %s: %w", uname, err)
	case err != nil:
		return refuse(d.cfg.Host, "start helper", KindDeploy, "%w", err)
	case answer.verb != replyMissing:
		return refuse(d.cfg.Host, "start helper", KindDeploy, "unexpected answer %q of the start script", answer.verb)
	}
	fs.Debugf(d.cfg.Host, "storing the helper for %s (%d bytes)", platform, len(helper.Bytes))
	if err := d.store(ctx, helper); err != nil {
		return err
	}
	d.uploads++
	return nil
}

// store uploads the helper to the first candidate directory that takes it.
func (d *deployer) store(ctx context.Context, helper bundle.Helper) error {
	var troubles []string
	for candidate := range maxCandidates {
		answer, said, err := d.storeAt(ctx, candidate, helper)
		if err != nil {
			return err
		}
		switch answer.verb {
		case replyStored:
			fs.Debugf(d.cfg.Host, "stored the helper in %s", answer.detail)
			return nil
		case replyExhausted:
			return d.nowhere(troubles)
		case replyFailed:
			trouble := storeTrouble(answer.detail, said)
			fs.Logf(d.cfg.Host, "the helper cannot live in %s", trouble)
			troubles = append(troubles, trouble)
		default:
			return refuse(d.cfg.Host, "store helper", KindDeploy, "unexpected answer %q of the upload script", answer.verb)
		}
	}
	return d.nowhere(troubles)
}

func (d *deployer) nowhere(troubles []string) error {
	if len(troubles) == 0 {
		troubles = []string{"the user has no home directory"}
	}
	return refuse(d.cfg.Host, "store helper", KindDeploy,
		"no directory can hold the helper (%s): set helper_dir to one with 5 MB free that may hold programs, or install the helper and set helper_path", strings.Join(troubles, "; "))
}

// storeTrouble names a directory and what is wrong with it. detail is the step
// that failed and the directory, said the last of stderr.
func storeTrouble(detail, said string) string {
	step, dir, _ := strings.Cut(detail, " ")
	reason := map[string]string{
		"create": "it cannot be created",
		"owner":  "it belongs to another user",
		"chmod":  "its permissions cannot be set",
		"write":  "the helper cannot be written, the file system may be full",
		"size":   "the helper arrived incomplete, the file system may be full",
		"digest": "the helper arrived damaged",
		"run":    "programs do not run there, it may be mounted noexec",
		"rename": "the helper cannot be renamed",
	}[step]
	if said != "" {
		reason += ": " + said
	}
	return fmt.Sprintf("%s (%s)", dir, reason)
}

// storeAt runs one upload and returns the script's answer and what the host
// wrote to stderr.
func (d *deployer) storeAt(ctx context.Context, candidate int, helper bundle.Helper) (reply, string, error) {
	loggedIn, err := d.login(ctx)
	if err != nil {
		return reply{}, "", err
	}
	defer loggedIn()
	p, err := d.remote.run(ctx, storeCommand(d.cfg, candidate, helper))
	if err != nil {
		return reply{}, "", d.failed(ctx, nil, err)
	}
	defer p.stop()
	stop := context.AfterFunc(ctx, p.kill)
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		// An error shows in the answer: the script compares the size.
		_, _ = p.stdin.Write(helper.Bytes)
		_ = p.stdin.Close()
	}()
	_, answer, err := awaitSpeaker(p.stdout)
	if err != nil {
		err = d.failed(ctx, p, err)
	}
	if err != nil || answer.verb != replyStored {
		// The script ends without reading the rest, which frees the writer.
		p.wait(diagnosisWait)
		p.kill()
	}
	<-sent
	return answer, oneLine(p.stderr.String(), 200), err
}
