package fstests

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// scene is what the commands of one script share.
type scene struct {
	t     testing.TB
	relay *harness.Relay // nil until the command sshd
}

type sceneKey struct{}

func sceneOf(ts *testscript.TestScript) *scene { return ts.Value(sceneKey{}).(*scene) }

// relayOf ends the script when it has no sshd yet.
func relayOf(ts *testscript.TestScript) *harness.Relay {
	relay := sceneOf(ts).relay
	if relay == nil {
		ts.Fatalf("the command sshd must come first")
	}
	return relay
}

// commands are the words that scripts have beside testscript's own. Sizes are bytes, with K, M or G for powers of
// 1024. FILE is a path below the script's folder or of a device.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"needs":         needs,
	"sshd":          sshd,
	"loopdev":       loopdev,
	"mount":         mount,
	"image":         image,
	"scatter":       func(ts *testscript.TestScript, neg bool, args []string) { change(ts, neg, args, harness.Scatter) },
	"gather":        func(ts *testscript.TestScript, neg bool, args []string) { change(ts, neg, args, harness.Gather) },
	"same":          same,
	"digest":        digest,
	"allocated-max": allocatedMax,
	"status":        status,
	"wire-reset":    wireReset,
	"wire-max":      wireMax,
	"wire-min":      wireMin,
	"wire-cut":      wireCut,
	"wire-delay":    wireDelay,
	"connections":   connections,
	"port":          port,
}

// needs THING...: what the script cannot do without, as named in package require.
func needs(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 1, -1, "needs thing...")
	var things []require.Thing
	for _, arg := range args {
		things = append(things, require.Thing(arg))
	}
	require.Need(sceneOf(ts).t, things...)
}

// sshd [LINE...]: starts a server behind a counting relay. Its host is known and its key is the user's, so that
// blockdev:$HOST/path works as typed. LINEs go to its configuration.
func sshd(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 0, -1, "sshd [line...]")
	s := sceneOf(ts)
	server := harness.Sshd(s.t, harness.SshdConfig(args...))
	s.relay = harness.NewRelay(s.t, server.Addr())
	server.KnowPort(s.t, s.relay.Port())
	ssh := filepath.Join(ts.Getenv("HOME"), ".ssh")
	copyFile(ts, server.KeyFile, filepath.Join(ssh, "id_ed25519"))
	copyFile(ts, server.KnownHosts, filepath.Join(ssh, "known_hosts"))
	for name, value := range map[string]string{
		"SSHHOST": server.Host, "SSHPORT": strconv.Itoa(s.relay.Port()), "SSHUSER": server.User, "SSHHOME": server.Home, "SSHRUNTIME": server.Runtime,
		"HOST": fmt.Sprintf("%s@%s:%d", server.User, server.Host, s.relay.Port()),
		"KEY":  server.KeyFile, "KNOWN_HOSTS": server.KnownHosts, "AUTHORIZED_KEYS": server.AuthorizedKeys,
	} {
		ts.Setenv(name, value)
	}
}

func copyFile(ts *testscript.TestScript, from, to string) {
	data, err := os.ReadFile(from)
	ts.Check(err)
	ts.Check(os.WriteFile(to, data, 0o600))
}

// loopdev NAME SIZE [OPTION...]: makes a loop device and sets $NAME to its path, and $NAMEBASE to the last part of
// it. OPTIONs are those of losetup.
func loopdev(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 2, -1, "loopdev name size [option...]")
	path := harness.Loop(sceneOf(ts).t, size(ts, args[1]), args[2:]...).Path
	ts.Setenv(args[0], path)
	ts.Setenv(args[0]+"BASE", filepath.Base(path))
}

// mount DIR DEVICE [OPTION...]: mounts a device until the script ends. OPTIONs are those of the mount program.
func mount(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 2, -1, "mount dir device [option...]")
	require.Need(sceneOf(ts).t, require.Mount)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(ts.Exec("mount", append(args[1:], dir)...))
	ts.Defer(func() { ts.Check(ts.Exec("umount", dir)) })
}

// image FILE SIZE SEED [hole=SHARE] [zero=SHARE] [text=SHARE]: writes an image; what is no share of the others is
// incompressible.
func image(ts *testscript.TestScript, neg bool, args []string) {
	const usage = "image file size seed [hole=share] [zero=share] [text=share]"
	plain(ts, neg, args, 3, 6, usage)
	im := harness.Image{Size: size(ts, args[1]), Seed: uint64(size(ts, args[2]))}
	for _, arg := range args[3:] {
		name, value, _ := strings.Cut(arg, "=")
		field := map[string]*float64{"hole": &im.Hole, "zero": &im.Zero, "text": &im.Text}[name]
		if field == nil {
			ts.Fatalf("usage: %s", usage)
		}
		*field = share(ts, value)
	}
	im.Write(sceneOf(ts).t, ts.MkAbs(args[0]))
}

// scatter FILE SHARE SEED and gather FILE SHARE SEED: change that share of the 4 KiB blocks at random places or in
// one place. They set $CHANGED to the number of bytes.
func change(ts *testscript.TestScript, neg bool, args []string, how func(testing.TB, string, float64, uint64) int64) {
	plain(ts, neg, args, 3, 3, "scatter|gather file share seed")
	n := how(sceneOf(ts).t, ts.MkAbs(args[0]), share(ts, args[1]), uint64(size(ts, args[2])))
	ts.Setenv("CHANGED", strconv.FormatInt(n, 10))
}

// same A B [SIZE]: A and B have equal bytes and lengths, or the first SIZE bytes of them are equal. Compared by
// the cmp program.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: [!] same a b [size]")
	}
	a, b := ts.MkAbs(args[0]), ts.MkAbs(args[1])
	harness.Settle(sceneOf(ts).t, a)
	harness.Settle(sceneOf(ts).t, b)
	cmp := []string{a, b}
	if len(args) == 3 {
		cmp = append(cmp, "--bytes="+strconv.FormatInt(size(ts, args[2]), 10))
	}
	err := ts.Exec("cmp", cmp...)
	var exit *exec.ExitError
	if differ := errors.As(err, &exit) && exit.ExitCode() == 1; err != nil && !differ || differ != neg {
		ts.Fatalf("same is %v: %v", err == nil, err)
	}
}

// digest NAME FILE: sets $NAME to the SHA-256 of FILE in hex, computed by the sha256sum program.
func digest(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 2, 2, "digest name file")
	ts.Setenv(args[0], harness.SHA256(sceneOf(ts).t, ts.MkAbs(args[1])))
}

// allocated-max FILE TERM...: FILE occupies at most that storage.
func allocatedMax(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 2, -1, "allocated-max file term...")
	if got, limit := harness.Allocated(sceneOf(ts).t, ts.MkAbs(args[0])), sum(ts, args[1:]); got > limit {
		ts.Fatalf("%s occupies %d bytes, more than %d", args[0], got, limit)
	}
}

// status N PROGRAM ARG...: runs a program that must end with that exit code. What it printed is for the commands
// stdout and stderr.
func status(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 2, -1, "status code program arg...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Check(err)
	}
	got := 0
	if err != nil {
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s ended with exit status %d, want %d", args[1], got, want)
	}
}

// wire-reset: counts anew what crosses the relay.
func wireReset(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 0, 0, "wire-reset")
	relayOf(ts).Reset()
}

// wire-max TERM...: at most that many bytes crossed the relay, both directions together.
func wireMax(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 1, -1, "wire-max term...")
	relay, limit := relayOf(ts), sum(ts, args)
	ts.Logf("%d bytes up, %d down, limit %d", relay.Up(), relay.Down(), limit)
	if relay.Total() > limit {
		ts.Fatalf("%d bytes crossed, more than %d", relay.Total(), limit)
	}
}

// wire-min TERM...: at least that many bytes crossed, which shows that the relay was in use.
func wireMin(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 1, -1, "wire-min term...")
	if got, least := relayOf(ts).Total(), sum(ts, args); got < least {
		ts.Fatalf("%d bytes crossed, fewer than %d", got, least)
	}
}

// wire-cut TERM...: the connections break once, when that many bytes have crossed since the last wire-reset.
func wireCut(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 1, -1, "wire-cut term...")
	relayOf(ts).CutAfter(sum(ts, args))
}

// wire-delay DURATION: the round-trip time from now on.
func wireDelay(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 1, 1, "wire-delay duration")
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	relayOf(ts).Delay(d)
}

// port NAME: sets $NAME to a port of 127.0.0.1 that nobody listens on.
func port(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 1, 1, "port name")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	ts.Check(l.Close())
}

// connections MADE OPEN: that many connections were made since the last wire-reset, and that many are open, now or
// within ten seconds.
func connections(ts *testscript.TestScript, neg bool, args []string) {
	plain(ts, neg, args, 2, 2, "connections made open")
	relay, made, open := relayOf(ts), size(ts, args[0]), size(ts, args[1])
	for deadline := time.Now().Add(10 * time.Second); int64(relay.Open()) != open && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if relay.Accepted() != made || int64(relay.Open()) != open {
		ts.Fatalf("%d connections were made and %d are open, want %s and %s", relay.Accepted(), relay.Open(), args[0], args[1])
	}
}

// plain ends the script when a command has the wrong number of arguments, max -1 for any, or stands behind "!".
func plain(ts *testscript.TestScript, neg bool, args []string, least, most int, usage string) {
	if neg || len(args) < least || most >= 0 && len(args) > most {
		ts.Fatalf("usage: %s", usage)
	}
}

// sum adds up terms: a size, or P%SIZE for a percentage of one.
func sum(ts *testscript.TestScript, terms []string) int64 {
	total := 0.0
	for _, term := range terms {
		percent, of, ok := strings.Cut(term, "%")
		if !ok {
			total += float64(size(ts, term))
			continue
		}
		p, err := strconv.ParseFloat(percent, 64)
		ts.Check(err)
		total += p / 100 * float64(size(ts, of))
	}
	return int64(total)
}

func size(ts *testscript.TestScript, s string) int64 {
	digits := strings.TrimRight(s, "KMG")
	n, err := strconv.ParseInt(digits, 10, 64)
	ts.Check(err)
	return n << map[string]uint{"": 0, "K": 10, "M": 20, "G": 30}[s[len(digits):]]
}

func share(ts *testscript.TestScript, s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	ts.Check(err)
	return f
}
