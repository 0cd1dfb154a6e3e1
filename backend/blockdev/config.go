package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/rclone/rclone/fs"
	"github.com/rclone/rclone/fs/config"
	"github.com/rclone/rclone/fs/config/configmap"
	"github.com/rclone/rclone/fs/config/configstruct"
	"github.com/rclone/rclone/lib/terminal"

	"github.com/rclone-blockdev/rclone-blockdev/backend/host"
)

// The questions that follow the options. "config create" takes answers to them as
// further options, and the defaults where it has none, so those must be safe.
const (
	askTest     = "config_test"           // connect now?
	askKey      = "config_trust_host_key" // true, or the fingerprint that is expected
	askSudo     = "config_use_sudo"       // when the user is not root
	askSudoKeep = "config_keep_sudo"      // when sudo has refused
	askKeep     = "config_keep"           // when the connection does not work
)

// The states in which the answers arrive. All that is known lies in them and in
// the configuration, since each question may be put by another process.
const (
	stateTest     = "test"
	stateKey      = "key" // followed by the fingerprint that was shown
	stateSudo     = "sudo"
	stateSudoKeep = "sudo-keep"
	stateKeep     = "keep"
)

// wizard is one step of the configuration of one remote.
type wizard struct {
	name string
	m    configmap.Mapper
	cfg  host.Config
	auto bool // nobody sees the questions, all are answered by default
}

// configure tests the connection of a remote whose options are set, and asks what
// only the user can know. It implements fs.RegInfo.Config.
func configure(ctx context.Context, name string, m configmap.Mapper, in fs.ConfigIn) (*fs.ConfigOut, error) {
	var opt Options
	if err := configstruct.Set(m, &opt); err != nil {
		return nil, err
	}
	here := opt.Host == host.Localhost
	if opt.Host == "" || here && !opt.Sudo {
		return nil, nil
	}
	w := &wizard{name: name, m: m, cfg: opt.Config, auto: fs.GetConfig(ctx).AutoConfirm}
	if w.auto || !terminal.IsTerminal(int(os.Stdin.Fd())) {
		w.cfg.AskPassword = false // who would type it?
	}
	if in.State == "" && here {
		return fs.ConfigConfirm(stateTest, true, askTest, `Test sudo?

This has sudo run the helper as root on this machine, after putting it into your
cache directory when it is missing.`)
	}
	if in.State == "" {
		return fs.ConfigConfirm(stateTest, true, askTest, fmt.Sprintf(`Test the connection?

This logs in to %s, shows the host key when it is not known yet,
and puts the helper program there when it is missing.`, w.cfg.Host))
	}
	return w.answered(ctx, in)
}

// answered goes on after an answer. No ends the configuration, but where it says
// otherwise.
func (w *wizard) answered(ctx context.Context, in fs.ConfigIn) (*fs.ConfigOut, error) {
	shown, state := fs.StatePop(in.State)
	yes := in.Result == "true"
	switch {
	case state == stateTest && yes:
		return w.test(ctx)
	case state == stateKey:
		return w.trust(ctx, shown, in.Result)
	case state == stateSudo && yes:
		return w.testSudo(ctx)
	case state == stateSudoKeep && yes:
		w.m.Set("sudo", "true")
		return nil, nil
	case state == stateKeep && !yes:
		config.DeleteRemote(w.name) // rclone has stored the options before
		return nil, fmt.Errorf("%s: removed from the configuration, as you said: correct what is wrong and start again", w.name)
	case state == stateTest, state == stateSudo, state == stateSudoKeep, state == stateKeep:
		return nil, nil
	}
	return nil, fmt.Errorf("%s: there is no state %q of the configuration: start again without --state", w.name, in.State)
}

// test connects and goes on with what it meets.
func (w *wizard) test(ctx context.Context) (*fs.ConfigOut, error) {
	return w.met(host.Probe(ctx, w.cfg))
}

// met goes on after a test.
func (w *wizard) met(found *host.Facts, err error) (*fs.ConfigOut, error) {
	if err != nil {
		return w.failed(err)
	}
	w.report(found)
	if found.Root || found.User == "" {
		return nil, nil
	}
	return fs.ConfigConfirm(stateSudo, false, askSudo, fmt.Sprintf(`Use sudo?

The user %s logs in to %s. Devices can usually be opened by root alone:
with sudo the helper runs as root there, which is tested now. Image files, and
devices that the user may open, do not need it.`, found.User, w.cfg.Host))
}

// report says what the host is.
func (w *wizard) report(found *host.Facts) {
	if w.cfg.Host == host.Localhost {
		fs.Logf(w.name, "sudo works: the helper runs as root on this machine, platform %s/%s, helper %s",
			found.Hello.OS, found.Hello.Arch, found.Hello.Build)
		return
	}
	user, as := found.User, ""
	if user == "" {
		user = "a user it does not name"
	}
	if w.cfg.Sudo {
		as = ", run as root by sudo"
	}
	fs.Logf(w.name, "the connection works: logged in to %s as %s, platform %s/%s, helper %s%s",
		w.cfg.Host, user, found.Hello.OS, found.Hello.Arch, found.Hello.Build, as)
}

// failed asks for the word of the user where that settles it. A key that is not
// the known one is no question: somebody may be intercepting the connection.
func (w *wizard) failed(err error) (*fs.ConfigOut, error) {
	var unknown *host.UnknownKeyError
	var he *host.Error
	switch {
	case errors.As(err, &unknown):
		return w.askKey(unknown, err)
	case errors.As(err, &he) && he.Kind == host.KindHostKey:
		return nil, err
	case he == nil:
		return nil, err // cancelled
	case he.Kind == host.KindSudo:
		return w.trouble("%s", w.sudoRefused(err))
	}
	return w.trouble("The connection does not work: %v", err)
}

// askKey shows a key. The error names the host, which may be a jump host.
func (w *wizard) askKey(unknown *host.UnknownKeyError, err error) (*fs.ConfigOut, error) {
	name := w.cfg.Host
	var he *host.Error
	if errors.As(err, &he) {
		name = he.Host
	}
	kind := strings.TrimPrefix(unknown.Key.Type(), "ssh-")
	if strings.HasPrefix(kind, "ecdsa-") {
		kind = "ecdsa"
	}
	shown := unknown.Fingerprint()
	return fs.ConfigConfirm(fs.StatePush(shown, stateKey), false, askKey, fmt.Sprintf(`Trust this host key?

%s is not known. It shows the %s key

    %s

Compare it with what this command prints on the host itself:

    ssh-keygen -lf /etc/ssh/ssh_host_%s_key.pub

If it is the same, the key is added to %s.
If it is not, somebody may be intercepting the connection.`, name, unknown.Key.Type(), shown, kind, unknown.File))
}

// trust takes the answer about the key that was shown: yes, or the fingerprint
// that is expected.
func (w *wizard) trust(ctx context.Context, shown, answer string) (*fs.ConfigOut, error) {
	switch {
	case answer == "true" || answer == shown:
		return w.pin(ctx, shown)
	case strings.HasPrefix(answer, "SHA256:"):
		return nil, fmt.Errorf("%s: the host shows the key %s and not %s as %s says: nothing was trusted, find out why before you connect", w.cfg.Host, shown, answer, askKey)
	}
	return w.trouble("The key %s of %s is not trusted, so connections will be refused. Compare it with the key of the host, then answer with %s=%s or run \"config reconnect %s:\".",
		shown, w.cfg.Host, askKey, shown, w.name)
}

// pin adds the key that was shown to known_hosts, if the host still shows it, and
// tests again.
func (w *wizard) pin(ctx context.Context, shown string) (*fs.ConfigOut, error) {
	found, err := host.Probe(ctx, w.cfg)
	var unknown, still *host.UnknownKeyError
	if !errors.As(err, &unknown) {
		return w.met(found, err)
	}
	if got := unknown.Fingerprint(); got != shown {
		return nil, fmt.Errorf("%s: the host shows the key %s now, and showed %s before: nothing was trusted", w.cfg.Host, got, shown)
	}
	if err := unknown.Pin(); err != nil {
		return nil, fmt.Errorf("%s: the host key cannot be added to known_hosts: %w: add this line: %s", w.cfg.Host, err, unknown.Line())
	}
	fs.Logf(w.name, "the key %s was added to %s", shown, unknown.File)
	found, err = host.Probe(ctx, w.cfg)
	if errors.As(err, &still) && still.Line() == unknown.Line() {
		return nil, err // asking again would not end
	}
	return w.met(found, err)
}

// testSudo sets the option sudo when it works.
func (w *wizard) testSudo(ctx context.Context) (*fs.ConfigOut, error) {
	w.cfg.Sudo = true
	found, err := host.Probe(ctx, w.cfg)
	if err == nil {
		w.m.Set("sudo", "true")
		w.report(found)
		return nil, nil
	}
	return w.ask(stateSudoKeep, false, askSudoKeep, "Set sudo = true all the same?", w.sudoRefused(err))
}

// sudoRefused says what to do, after the error with the line that is meant.
func (w *wizard) sudoRefused(err error) string {
	where := w.cfg.Host
	if where == host.Localhost {
		where = "this machine"
	}
	return fmt.Sprintf("Sudo does not work yet: %v. Nobody is there to type a password later, so add that line with \"visudo\" on %s, and test again with \"config reconnect %s:\".", err, where, w.name)
}

// trouble asks whether a remote that does not work is wanted.
func (w *wizard) trouble(format string, args ...any) (*fs.ConfigOut, error) {
	return w.ask(stateKeep, true, askKeep, "Keep this remote all the same? No removes it from the configuration.", fmt.Sprintf(format, args...))
}

// ask puts a question after bad news, which must be seen also where the question
// is not.
func (w *wizard) ask(state string, preset bool, name, question, news string) (*fs.ConfigOut, error) {
	if w.auto {
		fs.Logf(w.name, "%s", news)
	}
	out, err := fs.ConfigConfirm(state, preset, name, question)
	out.Error = news
	return out, err
}
