//go:build unix

package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tools are the commands that copy src to dst, by name. Those of other tools are there when the tool is on PATH.
func (t *bed) tools(pull bool) map[string]func() *exec.Cmd {
	w := t.way(pull)
	all := map[string]func() *exec.Cmd{
		"blockdev": func() *exec.Cmd { return t.client.Command(t.b.Context(), "copyto", "--ignore-times", w.from, w.to) },
		"blockdev-cached": func() *exec.Cmd { // devices are read through the page cache
			return t.client.Command(t.b.Context(), "copyto", "--ignore-times", "--blockdev-direct", "off", w.from, w.to)
		},
		"blockdev-ssh": func() *exec.Cmd { // with the ssh program instead of the built-in SSH
			return t.client.Command(t.b.Context(), "copyto", "--ignore-times", "--blockdev-ssh", w.program(), w.from, w.to)
		},
		"rsync":    w.rsync(),
		"rsync-4k": w.rsync("--block-size=4096"),
		"cat":      shell(w.at("src", "cat %s", t.src) + " | " + w.at("dst", "cat > %s", t.dst)),
	}
	for name, line := range w.peers() {
		program := program(name)
		if path, err := exec.LookPath(program); err == nil {
			all[name] = shell(strings.ReplaceAll(line, program+" ", path+" "))
		}
	}
	return all
}

// ours is what is compared without a tool of others.
var ours = map[string]bool{"blockdev": true, "blockdev-ssh": true, "blockdev-cached": true, "cat": true}

// program is the one that the tool with this name runs.
func program(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(name, "-16k"), "-4k")
}

func onPath(name string) bool {
	_, err := exec.LookPath(program(name))
	return err == nil
}

// way is a direction: which end is on the host.
type way struct {
	t        *bed
	ssh      string // command that logs in to the host
	from, to string // for rclone
	remote   string // "src" or "dst"
}

func (t *bed) way(pull bool) way {
	w := way{t: t, ssh: "ssh " + strings.Join(t.server.SSHArgs(t.port()), " "),
		from: "blockdev:localhost" + t.src, to: t.remote(t.dst), remote: "dst"}
	if pull {
		w.from, w.to, w.remote = t.remote(t.src), "blockdev:localhost"+t.dst, "src"
	}
	return w
}

// program is the ssh program as the option ssh has it, which names neither user nor port.
func (w way) program() string {
	s := w.t.server
	return "ssh -F none -i " + s.KeyFile + " -o IdentityAgent=none -o UserKnownHostsFile=" + s.KnownHosts
}

// at is a command line for the end that has "src" or "dst": over ssh where that is the host.
func (w way) at(end, format string, args ...any) string {
	line := fmt.Sprintf(format, args...)
	if end == w.remote {
		return fmt.Sprintf("%s 127.0.0.1 '%s'", w.ssh, line)
	}
	return "{ " + line + "; }"
}

func (w way) rsync(extra ...string) func() *exec.Cmd {
	from, to := w.t.src, "127.0.0.1:"+w.t.dst
	if w.remote == "src" {
		from, to = "127.0.0.1:"+w.t.src, w.t.dst
	}
	args := append([]string{"--copy-devices", "--write-devices", "--inplace", "--ignore-times", "--no-whole-file", "-e", w.ssh}, extra...)
	return func() *exec.Cmd { return exec.Command("rsync", append(args, from, to)...) }
}

// peers are command lines of tools that read both sides, as their documentation has them, with their own block size
// and with 16 KiB, which is quicker and sends four times as much of what has changed. The file for digests is theirs.
func (w way) peers() map[string]string {
	src, dst, digests := w.t.src, w.t.dst, w.t.dst+".digests"
	fast := func(options string) string {
		return w.at("dst", "blocksync-fast --make-digest %s -s %s 2>/dev/null", options, dst) + " > " + digests + ".here && " +
			w.at("src", "cat > %s && blocksync-fast --make-delta %s -s %s -f %s 2>/dev/null", digests, options, src, digests) + " < " + digests + ".here | " +
			w.at("dst", "blocksync-fast --apply-delta -d %s 2>/dev/null", dst)
	}
	// bdsync runs at the end that has the source and starts its server at the other.
	sync := func(options string) string {
		if w.remote == "dst" {
			return fmt.Sprintf(`bdsync %s "%s 127.0.0.1 bdsync --server" %s %s | `, options, w.ssh, src, dst) + w.at("dst", "bdsync --patch=%s", dst)
		}
		return fmt.Sprintf(`bdsync --remdata %s "%s 127.0.0.1 bdsync --server" %s %s | bdsync --patch=%s`, options, w.ssh, dst, src, dst)
	}
	from, to := src, "127.0.0.1:"+dst
	if w.remote == "src" {
		from, to = "127.0.0.1:"+src, dst
	}
	all := map[string]string{
		"blocksync-fast":     fast(""),
		"blocksync-fast-16k": fast("-b 16K -a XXH128"),
		"bdsync":             sync(""),
		"bdsync-16k":         sync("--hash=sha1 --blocksize=16384"),
		"diskrsync":          fmt.Sprintf("diskrsync --no-compress --cmd-path $(command -v diskrsync) --ssh-flags '%s' %s %s", strings.TrimPrefix(w.ssh, "ssh "), from, to),
	}
	if onPath("rblocksync3") {
		all["rblocksync3"] = fmt.Sprintf("PATH=%s:$PATH rblocksync3 -q %s %s", w.onlySSH(), from, to)
	}
	return all
}

// onlySSH is a directory with a program ssh for those that take no arguments for it.
func (w way) onlySSH() string {
	dir := w.t.b.TempDir()
	path, err := exec.LookPath("ssh")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "ssh"), []byte("#!/bin/sh\nexec "+path+strings.TrimPrefix(w.ssh, "ssh")+" \"$@\"\n"), 0o700)
	}
	if err != nil {
		w.t.b.Fatal(err)
	}
	return dir
}

func shell(line string) func() *exec.Cmd {
	return func() *exec.Cmd { return exec.Command("sh", "-c", line) }
}
