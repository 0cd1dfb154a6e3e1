package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"

	"github.com/rclone-blockdev/rclone-blockdev/helper/bundle"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// The scripts below run under the sh of the host, whatever the login shell is.
// They travel as one word in single quotes, so they hold no single quote, no
// backslash, no exclamation mark and no line end: fish and csh treat these
// differently, even inside single quotes. A test keeps it so.

// replyPrefix begins each line that a script has for us. Everything else that
// a login prints is skipped.
const replyPrefix = "blockdev-bootstrap: "

// The answers of the scripts, each followed by details.
const (
	replyMissing     = "missing"     // platform: no intact helper on the host
	replyUnsupported = "unsupported" // platform and uname: the client named no helper for it
	replyStored      = "stored"      // directory: the upload is complete and runs
	replyFailed      = "failed"      // step, directory: this candidate is no good
	replyExhausted   = "exhausted"   // there is no candidate with that number
	replyFound       = "found"       // platform and path: an intact helper is on the host
	replyStarts      = "starts"      // path: that helper is intact and speaks next
	replyRemoved     = "removed"     // path of a helper
	replyKept        = "kept"        // path of a helper that could not be removed
	replyPath        = "path"        // a path; a directory ends with a slash
	replyEnd         = "end"         // all is said
)

// scriptCommon defines two functions.
//
// digest prints the SHA-256 of a file, or "none" where the host has no tool.
//
// candidates calls try with each directory that may hold the helper, best
// first. All are private to the user: never a directory that others can write.
const scriptCommon = `digest() { ` +
	`if command -v sha256sum >/dev/null 2>&1; then sha256sum <"$1"; ` +
	`elif command -v shasum >/dev/null 2>&1; then shasum -a 256 <"$1"; ` +
	`elif command -v sha256 >/dev/null 2>&1; then sha256 -q <"$1"; ` +
	`else echo none; fi; }; ` +
	`candidates() { ` +
	`case $D in "~/"*) try "$HOME/${D#??}/$B";; ?*) try "$D/$B";; *) ` +
	`case $XDG_CACHE_HOME in /*) try "$XDG_CACHE_HOME/$B";; *) ` +
	`case $HOME in /*) try "$HOME/.cache/$B";; esac;; esac;; esac; ` +
	`case $XDG_RUNTIME_DIR in /*) try "$XDG_RUNTIME_DIR/$B";; esac; ` +
	`if [ "$(id -u)" = 0 ] && [ -d /run ]; then try "/run/$B"; fi; }; ` +
	`B=rclone-blockdev; `

// scriptRun finds the platform's helper, checks its content and becomes it.
// Arguments: helper_dir, "sudo" or "", or "find" to only tell where it is, "trust"
// or "", then platform=hash pairs.
//
// The trial run of the version command shows a file system without programs,
// for which test -x is wrong in some shells.
const scriptRun = scriptCommon + scriptSudo +
	`D=$1; S=$2; T=$3; shift 3; ` +
	`s=$(uname -s); m=$(uname -m); ` +
	`case $s in Linux) o=linux;; FreeBSD) o=freebsd;; Darwin) o=darwin;; *) o=$s;; esac; ` +
	`case $m in x86_64|amd64) a=amd64;; aarch64|arm64) a=arm64;; armv6*|armv7*|armv8l) a=arm;; ` +
	`i386|i686) a=386;; *) a=$m;; esac; ` +
	`w=; for p do case $p in "$o/$a="*) w=${p#*=};; esac; done; ` +
	`if [ -z "$w" ]; then echo "` + replyPrefix + replyUnsupported + ` $o/$a $s $m"; exit 0; fi; ` +
	`try() { [ -d "$1" ] && [ -O "$1" ] && chmod 700 "$1" || return 0; ` +
	`f=$1/helper-$w; [ -f "$f" ] && [ -O "$f" ] || return 0; ` +
	`case $(digest "$f") in "$w"*) ;; none*) [ "$T" = trust ] || return 0;; *) return 0;; esac; ` +
	`"$f" version </dev/null >/dev/null 2>&1 || return 0; ` +
	`if [ "$S" = find ]; then echo "` + replyPrefix + replyFound + ` $o/$a $f"; exit 0; fi; ` +
	`echo "` + replyPrefix + replyStarts + ` $f"; ` + scriptBecome + `; }; ` +
	`candidates; echo "` + replyPrefix + replyMissing + ` $o/$a"`

// scriptBecome becomes the helper f, as root when S is "sudo".
const scriptBecome = `if [ "$S" = sudo ]; then root "$f" serve; fi; exec "$f" serve`

// scriptAgain becomes a helper that was found intact a moment ago: finding and
// checking it costs more than starting it. Arguments: "sudo" or "", path.
const scriptAgain = scriptSudo +
	`S=$1; f=$2; if [ -O "${f%/*}" ] && [ -f "$f" ] && [ -O "$f" ]; then ` + scriptBecome + `; fi; ` +
	`echo "` + replyPrefix + replyMissing + `"`

// scriptStore takes a helper from standard input into one candidate directory.
// Arguments: helper_dir, number of the candidate from 0, hash, size in bytes.
// Helpers of other releases go 30 days after they were stored, since a rclone
// that needs one stores it again; broken uploads go after a day.
const scriptStore = scriptCommon +
	`D=$1; K=$2; w=$3; z=$4; n=0; t=; umask 077; ` +
	`say() { echo "` + replyPrefix + `$1"; exit 0; }; ` +
	`clean() { if [ -n "$t" ]; then rm -f "$t"; fi; }; trap clean 0; trap "exit 1" 1 2 13 15; ` +
	`try() { if [ "$n" = "$K" ]; then put "$1"; fi; n=$((n+1)); }; ` +
	`put() { mkdir -p "$1" || say "` + replyFailed + ` create $1"; ` +
	`[ -O "$1" ] || say "` + replyFailed + ` owner $1"; ` +
	`chmod 700 "$1" || say "` + replyFailed + ` chmod $1"; ` +
	`t=$1/upload-$w-$$; cat >"$t" || say "` + replyFailed + ` write $1"; ` +
	`[ "$(($(wc -c <"$t")))" = "$z" ] || say "` + replyFailed + ` size $1"; ` +
	`case $(digest "$t") in "$w"*|none*) ;; *) say "` + replyFailed + ` digest $1";; esac; ` +
	`chmod 700 "$t" || say "` + replyFailed + ` chmod $1"; ` +
	`"$t" version </dev/null >/dev/null || say "` + replyFailed + ` run $1"; ` +
	`mv -f "$t" "$1/helper-$w" || say "` + replyFailed + ` rename $1"; t=; ` +
	`find "$1" -type f "(" -name "helper-*" -mtime +30 -o -name "upload-*" -mtime +1 ")" -exec rm -f "{}" ";" 2>/dev/null; ` +
	`say "` + replyStored + ` $1"; }; ` +
	`candidates; say ` + replyExhausted

// scriptRemove removes all helpers of all releases, and directories that are empty
// then. Argument: helper_dir.
const scriptRemove = scriptCommon +
	`D=$1; say() { echo "` + replyPrefix + `$1"; }; ` +
	`try() { [ -d "$1" ] && [ -O "$1" ] || return 0; ` +
	`for f in "$1"/helper-*; do [ -f "$f" ] && [ -O "$f" ] || continue; ` +
	`if rm -f "$f"; then say "` + replyRemoved + ` $f"; else say "` + replyKept + ` $f"; fi; done; ` +
	`rmdir "$1" 2>/dev/null || return 0; }; ` +
	`candidates; say ` + replyEnd

// scriptPaths names what begins with its argument, for the completion of a shell.
const scriptPaths = `for f in "$1"*; do ` +
	`if [ -d "$f" ]; then echo "` + replyPrefix + replyPath + ` $f/"; ` +
	`elif [ -b "$f" ] || [ -f "$f" ]; then echo "` + replyPrefix + replyPath + ` $f"; fi; done`

// scriptSudo defines how the command that follows its name becomes root: by sudo, or
// where there is none by doas. Neither may ask for a password.
const scriptSudo = `root() { ` +
	`if command -v sudo >/dev/null 2>&1; then exec sudo -n -- "$@"; fi; ` +
	`if command -v doas >/dev/null 2>&1; then exec doas -n -- "$@"; fi; ` +
	`echo "neither sudo nor doas is installed" >&2; exit 1; }; `

// scriptInstalled becomes the helper that is its argument.
const scriptInstalled = scriptSudo + `root "$1" serve`

// runCommand is the command line that starts the helper from the directories
// of the host. trust accepts a file that cannot be checked because the host
// has no tool for it; it is for right after an upload.
func runCommand(cfg Config, entries []bundle.Entry, trust bool) string {
	return helperCommand(cfg, entries, flagWord(cfg.Sudo, "sudo"), trust)
}

// againCommand is the command line that starts the helper at path once more.
func againCommand(cfg Config, path string) string {
	return scriptCommand(scriptAgain, []string{flagWord(cfg.Sudo, "sudo"), path})
}

// findCommand is the command line that tells where the helper is that runCommand
// would start.
func findCommand(cfg Config, entries []bundle.Entry, trust bool) string {
	return helperCommand(cfg, entries, "find", trust)
}

func helperCommand(cfg Config, entries []bundle.Entry, how string, trust bool) string {
	words := []string{cfg.HelperDir, how, flagWord(trust, "trust")}
	for _, e := range entries {
		words = append(words, e.Platform.String()+"="+e.SHA256)
	}
	return scriptCommand(scriptRun, words)
}

// storeCommand is the command line that stores a helper fed to its input.
func storeCommand(cfg Config, candidate int, helper bundle.Helper) string {
	return scriptCommand(scriptStore, []string{
		cfg.HelperDir, strconv.Itoa(candidate), helper.SHA256, strconv.Itoa(len(helper.Bytes))})
}

// pathsCommand is the command line that names what begins with prefix.
func pathsCommand(prefix string) string { return scriptCommand(scriptPaths, []string{prefix}) }

// removeCommand is the command line that removes the helpers that were stored.
func removeCommand(cfg Config) string { return scriptCommand(scriptRemove, []string{cfg.HelperDir}) }

// installedCommand is the command line for a helper that the user installed.
func installedCommand(cfg Config) string {
	if cfg.Sudo {
		return "sh -c '" + scriptInstalled + "' sh " + homeWord(cfg.HelperPath)
	}
	return homeWord(cfg.HelperPath) + " serve"
}

// localWords starts a command line on this machine. Without exec a shell would
// stand between us and the helper, and take the signals meant for it.
func localWords(command string) []string { return []string{"/bin/sh", "-c", "exec " + command} }

func scriptCommand(script string, words []string) string {
	var b strings.Builder
	b.WriteString("sh -c '" + script + "' sh")
	for _, w := range words {
		b.WriteByte(' ')
		b.WriteString(shellWord(w))
	}
	return b.String()
}

func flagWord(on bool, word string) string {
	if on {
		return word
	}
	return ""
}

// reply is one answer of a script.
type reply struct{ verb, detail string }

// errSilent means that the output ended before a helper or a script spoke.
var errSilent = errors.New("the host closed the stream before the helper answered")

// awaitSpeaker reads the output of a command until the helper's magic or a
// script's answer appears, skipping what a login prints before. With the magic
// it returns a reader that begins with it, and the answer that announced it, if
// one did.
func awaitSpeaker(r io.Reader) (io.Reader, reply, error) {
	var seen []byte
	line := 0 // start of the last line, before which no answer is
	chunk := make([]byte, 4096)
	for {
		n, err := r.Read(chunk)
		fresh := max(0, len(seen)-len(wire.Magic))
		seen = append(seen, chunk[:n]...)
		if at := bytes.Index(seen[fresh:], []byte(wire.Magic)); at >= 0 && fresh+at <= wire.MaxPreamble {
			rest := seen[fresh+at:]
			return io.MultiReader(bytes.NewReader(rest), r), announced(seen[:fresh+at]), nil
		}
		if answer, ok := findReply(seen[line:]); ok {
			return nil, answer, nil
		}
		line = bytes.LastIndexByte(seen, '\n') + 1
		if len(seen) > wire.MaxPreamble {
			return nil, reply{}, fmt.Errorf("the login printed more than %d bytes before the helper answered: make the login scripts of the host quiet", wire.MaxPreamble)
		}
		if err == io.EOF {
			return nil, reply{}, silent(seen)
		}
		if err != nil {
			return nil, reply{}, err
		}
	}
}

func silent(seen []byte) error {
	var said []byte
	for line := range bytes.Lines(seen) {
		if !bytes.HasPrefix(line, []byte(replyPrefix)) {
			said = append(said, line...)
		}
	}
	if text := oneLine(string(said), 200); text != "" {
		return fmt.Errorf("%w; it printed: %s", errSilent, text)
	}
	return errSilent
}

// findReply looks for a complete line of a script that is all it has to say.
func findReply(seen []byte) (reply, bool) {
	for r := range replies(seen) {
		if r.verb != replyStarts {
			return r, true
		}
	}
	return reply{}, false
}

// announced is the answer that announced the helper, in what came before it.
func announced(seen []byte) (last reply) {
	for r := range replies(seen) {
		if r.verb == replyStarts {
			last = r
		}
	}
	return last
}

// maxDetail bounds the details of a reply, in bytes: above all one path.
const maxDetail = 1000

// replies are the complete lines of a script in what a command printed.
func replies(seen []byte) iter.Seq[reply] {
	return func(yield func(reply) bool) {
		for line := range bytes.Lines(seen) {
			rest, ok := bytes.CutPrefix(line, []byte(replyPrefix))
			if !ok || !bytes.HasSuffix(line, []byte("\n")) {
				continue
			}
			verb, detail, _ := strings.Cut(strings.TrimSpace(string(rest)), " ")
			if !yield(reply{verb: verb, detail: oneLine(detail, maxDetail)}) {
				return
			}
		}
	}
}
