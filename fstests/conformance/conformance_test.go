// Package conformance runs rclone's own suite for backends against image files of this machine. Devices have a
// fixed size, which the suite does not know.
package conformance

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/rclone/rclone/fstest/fstests"

	"github.com/rclone-blockdev/rclone-blockdev/backend/blockdev"
)

// variable makes this test program run the suite on the remote that it names.
const variable = "BLOCKDEV_CONFORMANCE"

// skips lists what the suite may leave out, below TestConformance, with the feature that is missing on purpose.
// Whatever else it skips is a mistake.
var skips = map[string]string{
	"FsCheckWrap":                                   "blockdev wraps no other remote",
	"FsCommand":                                     "no backend commands",
	"FsRootCannotChangeHost":                        "for roots that end in a colon; has a test of its own in backend/blockdev",
	"FsMkdir/FsListRDirEmpty":                       "no ListR: listings are one round trip",
	"FsMkdir/FsListRDirNotFound":                    "no ListR",
	"FsMkdir/FsPutFiles/FsListRDirFile2":            "no ListR",
	"FsMkdir/FsPutFiles/FsListRDirRoot":             "no ListR",
	"FsMkdir/FsPutFiles/FsListRSubdir#01":           "no ListR",
	"FsMkdir/FsPutFiles/FsListRLevel2":              "no ListR",
	"FsMkdir/FsPutFiles/FromRoot/ListR":             "no ListR",
	"FsMkdir/FsOpenWriterAt":                        "would cut devices and remove them on errors",
	"FsMkdir/FsOpenChunkWriter":                     "would bypass the comparison of blocks",
	"FsMkdir/FsPutChunked":                          "no OpenChunkWriter",
	"FsMkdir/FsCopyChunked":                         "no OpenChunkWriter",
	"FsMkdir/FsPutRetry/Chunked":                    "no OpenChunkWriter",
	"FsMkdir/FsPutShortEOF/Chunked":                 "no OpenChunkWriter",
	"FsMkdir/FsPutRetry/Simple/Status500":           "the suite breaks HTTP, and there is none",
	"FsMkdir/FsPutRetry/Simple/NetError":            "the suite breaks HTTP, and there is none",
	"FsMkdir/FsChangeNotify":                        "no ChangeNotify",
	"FsMkdir/FsPutFiles/FsNewObjectCaseInsensitive": "names have case",
	"FsMkdir/FsPutFiles/FsPurge":                    "removes trees",
	"FsMkdir/FsPutFiles/FsPurgeRoot":                "removes trees",
	"FsMkdir/FsPutFiles/FsMove":                     "would rename devices",
	"FsMkdir/FsPutFiles/FsDirMove":                  "would rename devices",
	"FsMkdir/FsPutFiles/FsCopy/Metadata":            "no metadata",
	"FsMkdir/FsPutFiles/ObjectMetadata":             "no metadata",
	"FsMkdir/FsPutFiles/ObjectSetMetadata":          "no metadata",
	"FsMkdir/FsMkdirMetadata":                       "no metadata",
	"FsMkdir/FsDirectory":                           "directories have no settable properties",
	"FsMkdir/FsDirSetModTime":                       "directories have no settable properties",
	"FsMkdir/FsPutFiles/PublicLink":                 "no links",
	"FsMkdir/FsPutFiles/SetTier":                    "no tiers",
	"FsMkdir/FsPutFiles/ObjectCheckWrap":            "blockdev wraps no other remote",
	"FsMkdir/FsPutFiles/Bucket":                     "no buckets",
	"FsMkdir/FsPutFiles/FsPutStream":                "sizes are compared before the first write, so they must be known",
	"FsMkdir/FsPutFiles/Internal":                   "blockdev has no tests inside the suite",
}

var skipped = regexp.MustCompile(`(?m)^ *--- SKIP: TestConformance/(\S+)`)

func TestConformance(t *testing.T) {
	if remote := os.Getenv(variable); remote != "" {
		fstests.Run(t, &fstests.Opt{RemoteName: remote, NilObject: (*blockdev.Object)(nil)})
		return
	}
	for name, prefix := range map[string]string{"host in the path": "TestBlockdev:localhost", "host option": "TestBlockdevHost:"} {
		t.Run(name, func(t *testing.T) { run(t, prefix+filepath.ToSlash(t.TempDir())) })
	}
}

// run has this program run the suite in a process of its own: the suite changes global settings, and what it
// skips can be read from its output.
func run(t *testing.T, remote string) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^TestConformance$", "-test.v=true")
	cmd.Env = append(os.Environ(), variable+"="+remote, "RCLONE_CONFIG="+filepath.Join(t.TempDir(), "rclone.conf"),
		"RCLONE_CONFIG_TESTBLOCKDEV_TYPE=blockdev",
		"RCLONE_CONFIG_TESTBLOCKDEVHOST_TYPE=blockdev", "RCLONE_CONFIG_TESTBLOCKDEVHOST_HOST=localhost")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got []string
	for _, match := range skipped.FindAllSubmatch(out, -1) {
		got = append(got, string(match[1]))
	}
	for _, name := range got {
		if skips[name] == "" {
			t.Errorf("%s was skipped", name)
		}
	}
	for name := range skips {
		if !slices.Contains(got, name) {
			t.Errorf("%s was not skipped: take it off the list", name)
		}
	}
	if passed := bytes.Count(out, []byte("--- PASS: ")); passed < 80 {
		t.Errorf("only %d tests passed", passed)
	}
}
