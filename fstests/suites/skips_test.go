package suites

import (
	"regexp"
	"testing"
)

// skip is a set of tests that rclone leaves out, with the feature that is missing on purpose.
type skip struct {
	pattern *regexp.Regexp // of package and test
	why     string
}

func because(why, pattern string) skip { return skip{regexp.MustCompile("^(?:" + pattern + ")$"), why} }

// skips lists what may be left out. Each entry must be of use, so that the list says what is so.
var skips = []skip{
	because("rclone runs it without a remote only", `(fs/operations|fs/sync|vfs) TestRc.*`),
	because("rclone runs it without a remote only", `fs/operations Test(UploadFile|IndexNoHash)|vfs Test(Functional|WriteFileHandleReadonly)`),
	because("rclone runs it with the local backend only", `fs/operations TestCopyLongFile`),
	because("rclone runs it with the local backend only", `fs/sync Test(CopyNoTraverseDeadlock|(MaxTransfer|SyncWithMaxDuration)/.*)`),
	because("no partial uploads: what exists is changed in place", `fs/operations TestCopy(Inplace|LongFileName|LongFileNameCollision)`),
	because("no Move and DirMove: they would rename devices", `fs/operations Test(RemoveExisting|DirMove.*)`),
	because("no MergeDirs, and a name has one object", `fs/operations Test(MergeDirs|Deduplicate.*)`),
	because("only with multithread_upload, which takes no local files and changes images in place", `fs/operations TestMultithreadCopy(Abort)?`),
	because("only for backends with MD5", `fs/operations TestCheckSum`),
	because("only for backends with hashes", `fs/operations TestRcatSizeChecksum/.*`),
	because("names have case", `fs/operations TestCaseInsensitiveMoveWithoutServerSideMove|fs/sync TestFixCase`),
	because("directories have no settable properties", `fs/operations Test(CopyDirMetadata|DirsEqual|MkdirMetadata|MkdirModTime|SetDirModTime)`),
	because("directories have no settable properties", `fs/sync Test(Sync.*Dir.*|SyncSetDelayedModTimes)|vfs TestDirEntryModTimeInvalidation`),
	because("no metadata to write", `fs/operations TestRcat(Size)?Metadata|fs/sync TestCopyMetadata(NoEmptyDirs)?`),
}

var (
	skipped = regexp.MustCompile(`(?m)^ *--- SKIP: (\S+)`)
	passed  = regexp.MustCompile(`(?m)^--- PASS: `)
)

// inspect fails for every test of a suite that was skipped without a reason, and returns which reasons it used.
func inspect(t *testing.T, pkg string, out []byte) map[*skip]bool {
	t.Helper()
	used := map[*skip]bool{}
	matches := skipped.FindAllSubmatch(out, -1)
	for _, match := range matches {
		test, known := pkg+" "+string(match[1]), false
		for i := range skips {
			if skips[i].pattern.MatchString(test) {
				used[&skips[i]], known = true, true
			}
		}
		if !known {
			t.Errorf("%s was skipped", test)
		}
	}
	n := len(passed.FindAll(out, -1))
	if n < 50 {
		t.Errorf("%s: only %d tests passed", pkg, n)
	}
	t.Logf("%s: %d passed, %d skipped", pkg, n, len(matches))
	return used
}
