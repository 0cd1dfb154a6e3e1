// Package conformance runs rclone's own suite for backends against image files, here and over SSH. Devices have a
// fixed size, which the suite does not know.
package conformance

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/rclone/rclone/fstest/fstests"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// variable makes this test program run the suite on the remote that it names.
const variable = "BLOCKDEV_CONFORMANCE"

// skips lists what the suite may leave out, below TestConformance, with the feature that is missing on purpose.
// Whatever else it skips is a mistake.
var skips = map[string]string{
	"FsCheckWrap":                                   "blockdev wraps no other remote",
	"FsRootCannotChangeHost":                        "for remotes that end in a colon",
	"FsMkdir/FsListRDirEmpty":                       "no ListR: listings are one round trip",
	"FsMkdir/FsListRDirNotFound":                    "no ListR",
	"FsMkdir/FsPutFiles/FsListRDirFile2":            "no ListR",
	"FsMkdir/FsPutFiles/FsListRDirRoot":             "no ListR",
	"FsMkdir/FsPutFiles/FsListRSubdir#01":           "no ListR",
	"FsMkdir/FsPutFiles/FsListRLevel2":              "no ListR",
	"FsMkdir/FsPutFiles/FromRoot/ListR":             "no ListR",
	"FsMkdir/FsOpenWriterAt":                        "would cut devices and remove them on errors",
	"FsMkdir/FsOpenChunkWriter":                     "only with multithread_upload",
	"FsMkdir/FsPutChunked":                          "the size of chunks cannot be set",
	"FsMkdir/FsCopyChunked":                         "the size of chunks cannot be set",
	"FsMkdir/FsPutRetry/Chunked":                    "the size of chunks cannot be set",
	"FsMkdir/FsPutShortEOF/Chunked":                 "the size of chunks cannot be set",
	"FsMkdir/FsPutRetry/Simple/Status500":           "the suite breaks HTTP, and there is none",
	"FsMkdir/FsPutRetry/Simple/NetError":            "the suite breaks HTTP, and there is none",
	"FsMkdir/FsChangeNotify":                        "no ChangeNotify",
	"FsMkdir/FsPutFiles/FsNewObjectCaseInsensitive": "names have case",
	"FsMkdir/FsPutFiles/FsPurge":                    "removes trees",
	"FsMkdir/FsPutFiles/FsPurgeRoot":                "removes trees",
	"FsMkdir/FsPutFiles/FsMove":                     "would rename devices",
	"FsMkdir/FsPutFiles/FsDirMove":                  "would rename devices",
	"FsMkdir/FsPutFiles/FsCopy/Metadata":            "metadata is read-only",
	"FsMkdir/FsPutFiles/ObjectSetMetadata":          "metadata is read-only",
	"FsMkdir/FsMkdirMetadata":                       "metadata is read-only",
	"FsMkdir/FsDirectory":                           "directories have no settable properties",
	"FsMkdir/FsDirSetModTime":                       "directories have no settable properties",
	"FsMkdir/FsPutFiles/PublicLink":                 "no links",
	"FsMkdir/FsPutFiles/SetTier":                    "no tiers",
	"FsMkdir/FsPutFiles/ObjectCheckWrap":            "blockdev wraps no other remote",
	"FsMkdir/FsPutFiles/Bucket":                     "no buckets",
	"FsMkdir/FsPutFiles/FsPutStream":                "sizes are compared before the first write, so they must be known",
	"FsMkdir/FsPutFiles/Internal":                   "blockdev has no tests inside the suite",
}

// form is one way to name a place on a host.
type form struct {
	remote  string
	options map[string]string // by their names in the environment
	runs    []string          // of skips, what the suite does not skip for this form
}

var skipped = regexp.MustCompile(`(?m)^ *--- SKIP: TestConformance/(\S+)`)

func TestConformance(t *testing.T) {
	if remote := os.Getenv(variable); remote != "" {
		fstests.Run(t, &fstests.Opt{RemoteName: remote, NilObject: (*blockdev.Object)(nil)})
		return
	}
	for name, prepare := range map[string]func(t *testing.T) form{
		"LocalhostInPath": func(t *testing.T) form { return form{remote: "localhost" + t.TempDir()} },
		"LocalhostOption": func(t *testing.T) form {
			return form{remote: t.TempDir(), options: map[string]string{"HOST": "localhost"}}
		},
		"LocalhostMore": func(t *testing.T) form {
			return form{"localhost" + t.TempDir(), map[string]string{"HASHES": "true", "MULTITHREAD_UPLOAD": "true"}, []string{"FsMkdir/FsOpenChunkWriter"}}
		},
		"SshdInPath":     sshdInPath,
		"SshdOptionRoot": sshdOptionRoot,
	} {
		t.Run(name, func(t *testing.T) { prepare(t).run(t) })
	}
}

// sshdInPath names an OpenSSH server by its alias in an ssh config file, which has all the rest.
func sshdInPath(t *testing.T) form {
	s := harness.Sshd(t)
	file := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("Host private\n HostName %s\n Port %d\n User %s\n IdentityFile %q\n UserKnownHostsFile %q\n",
		s.Host, s.Port, s.User, s.KeyFile, s.KnownHosts)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return form{remote: "private" + t.TempDir(), options: map[string]string{
		"SSH_CONFIG": file, "HELPER_PATH": harness.Bin(t, "blockdev-helper"),
	}}
}

// sshdOptionRoot has the options for an OpenSSH server and stands at the root of the host, which is a folder of its
// own for its helper. So the remote ends in a colon, and a root of "//other" might lead to another host.
func sshdOptionRoot(t *testing.T) form {
	require.Need(t, require.Root)
	s := harness.Sshd(t)
	root, script := t.TempDir(), filepath.Join(t.TempDir(), "helper")
	helper, err := os.ReadFile(harness.Bin(t, "blockdev-helper"))
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "helper"), helper, 0o700)
	}
	if err == nil {
		text := fmt.Sprintf("#!/bin/sh\nexec chroot '%s' /helper \"$@\"\n", root)
		err = os.WriteFile(script, []byte(text), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	return form{
		options: map[string]string{
			"HOST": s.Host, "PORT": strconv.Itoa(s.Port), "USER": s.User, "KEY_FILE": s.KeyFile,
			"KNOWN_HOSTS_FILE": s.KnownHosts, "SSH_CONFIG": "none", "HELPER_PATH": script,
		},
		runs: []string{"FsRootCannotChangeHost"},
	}
}

// run has this program run the suite in a process of its own: the suite changes global settings, and what it
// skips can be read from its output.
func (f form) run(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestConformance$", "-test.v=true", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), variable+"=TestBlockdev:"+filepath.ToSlash(f.remote),
		"RCLONE_CONFIG="+filepath.Join(t.TempDir(), "rclone.conf"), "RCLONE_CONFIG_TESTBLOCKDEV_TYPE=blockdev")
	for option, value := range f.options {
		cmd.Env = append(cmd.Env, "RCLONE_CONFIG_TESTBLOCKDEV_"+option+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got []string
	for _, match := range skipped.FindAllSubmatch(out, -1) {
		got = append(got, string(match[1]))
	}
	for _, name := range got {
		if skips[name] == "" || slices.Contains(f.runs, name) {
			t.Errorf("%s was skipped", name)
		}
	}
	for name := range skips {
		if !slices.Contains(got, name) && !slices.Contains(f.runs, name) {
			t.Errorf("%s was not skipped: take it off the list", name)
		}
	}
	if passed := bytes.Count(out, []byte("--- PASS: ")); passed < 80 {
		t.Errorf("only %d tests passed", passed)
	}
}
