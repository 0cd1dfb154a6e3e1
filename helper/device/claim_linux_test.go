package device

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/require"
)

// targets are a new image, an existing one and, with the rights, a device.
func targets(t *testing.T, size int64, fn func(t *testing.T, path string)) {
	t.Run("New", func(t *testing.T) { fn(t, filepath.Join(t.TempDir(), "new.img")) })
	t.Run("Image", func(t *testing.T) { fn(t, image(t, size)) })
	t.Run("Device", func(t *testing.T) {
		require.Need(t, require.Root, require.Loop)
		fn(t, loop(t, image(t, size)))
	})
}

func TestOpenWrite_Follower(t *testing.T) {
	mine, other := Token{1, 2, 3}, Token{1, 2, 3, 0, 0, 0, 0, 8}
	targets(t, mib, func(t *testing.T, path string) {
		follow := WriteOptions{Size: mib, Claim: mine}
		_, err := OpenWrite(path, follow)
		wantError(t, err, ErrBusy, path, "claim", "gone")

		lead, err := OpenWrite(path, WriteOptions{Size: mib, Claim: mine, Lead: true})
		if err != nil {
			t.Fatal(err)
		}
		defer lead.Abort()
		if !lead.Shared() {
			t.Fatal("the claim cannot be shared")
		}
		_, err = OpenWrite(lead.Path(), WriteOptions{Size: mib, Claim: other})
		wantError(t, err, ErrBusy, lead.Path(), "gone")
		_, err = OpenWrite(path, WriteOptions{Size: mib, Claim: other, Lead: true})
		if !errors.Is(err, ErrBusy) {
			t.Errorf("second leader: %v", err)
		}

		var streams []*Object
		for i := range 3 {
			o, err := OpenWrite(lead.Path(), follow)
			if err != nil {
				t.Fatalf("follower %d: %v", i, err)
			}
			if _, err := o.WriteAt([]byte{byte(i + 1)}, int64(i)*1000); err != nil {
				t.Fatal(err)
			}
			streams = append(streams, o)
		}
		for i, o := range streams {
			if i == 0 {
				err = o.Abort()
			} else {
				err = o.Commit(time.Unix(1, 0))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := lead.Commit(time.Unix(2, 0)); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := make([]byte, 2001)
		if _, err := f.ReadAt(got, 0); err != nil || got[0] != 1 || got[1000] != 2 || got[2000] != 3 {
			t.Errorf("what the followers wrote is not there: %d %d %d, %v", got[0], got[1000], got[2000], err)
		}
		_, err = OpenWrite(path, follow)
		wantError(t, err, ErrBusy, path, "gone")
	})
}

// A leader that comes while a stream of a lost transfer still writes must wait.
func TestOpenWrite_FollowerOutlivesLeader(t *testing.T) {
	targets(t, mib, func(t *testing.T, path string) {
		w := WriteOptions{Size: mib, Claim: Token{1}, Lead: true}
		lead, err := OpenWrite(path, w)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := OpenWrite(lead.Path(), WriteOptions{Size: mib, Claim: w.Claim})
		if err != nil {
			t.Fatal(err)
		}
		lead.Close()
		w.Claim = Token{2}
		_, err = OpenWrite(path, w)
		wantError(t, err, ErrBusy, "")
		stream.Close()
		again, err := OpenWrite(path, w)
		if err != nil {
			t.Fatal(err)
		}
		again.Abort()
	})
}

// A follower zeroes where it just wrote: there the kernel cannot drop the page
// cache under the leader's claim, and the range must be zero all the same.
func TestObject_ModelOfFollower(t *testing.T) {
	const size = 300_032
	targets(t, size, func(t *testing.T, path string) {
		lead, err := OpenWrite(path, WriteOptions{Size: size, Claim: Token{9}, Lead: true})
		if err != nil {
			t.Fatal(err)
		}
		defer lead.Abort()
		o, err := OpenWrite(lead.Path(), WriteOptions{Size: size, Claim: Token{9}})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Abort()
		exercise(t, o, size)
	})
}

func TestOpenWrite_FollowerOfSmallFile(t *testing.T) {
	path := image(t, 1000)
	lead, err := OpenWrite(path, WriteOptions{Size: 1000, Claim: Token{1}, Lead: true})
	if err != nil {
		t.Fatal(err)
	}
	defer lead.Abort()
	_, err = OpenWrite(path, WriteOptions{Size: 2000, Claim: Token{1}})
	wantError(t, err, ErrSizeMismatch, path, "1000", "2000")
}

// Another user may have put a file where the partial one goes, and keep a way
// to read or change it.
func TestOpenWrite_PlantedPartial(t *testing.T) {
	dir := t.TempDir()
	path, planted := filepath.Join(dir, "disk.img"), filepath.Join(dir, "planted")
	partial := filepath.Join(dir, partialName(path))
	writeFile(t, planted, pattern(100))

	if err := os.Symlink(planted, partial); err != nil {
		t.Fatal(err)
	}
	if o, err := OpenWrite(path, WriteOptions{Size: 100}); err == nil {
		o.Close()
		t.Error("written through a symlink")
	}
	if err := os.Remove(partial); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(planted, partial); err != nil {
		t.Fatal(err)
	}
	o := create(t, path, 100)
	if _, err := o.WriteAt(make([]byte, 100), 0); err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(time.Time{}); err != nil {
		t.Fatal(err)
	}
	wantContent(t, planted, pattern(100))
}

func TestObject_CommitOverSomethingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.img")
	o := create(t, path, 10)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	wantError(t, o.Commit(time.Time{}), ErrRefused, path, o.Path())
	wantNames(t, dir, filepath.Base(o.Path()), "disk.img")
}
