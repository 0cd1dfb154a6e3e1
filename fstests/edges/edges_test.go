package edges

import (
	"bytes"
	"testing"

	_ "github.com/rclone-blockdev/rclone-blockdev/fstests/require" // its flags are those of all tests below fstests
)

func TestContent_Make(t *testing.T) {
	for _, c := range Contents() {
		for _, size := range Sizes() {
			b := c.Make(size, 1)
			if len(b) != size {
				t.Fatalf("%s: %d bytes, want %d", c.Name, len(b), size)
			}
			if !bytes.Equal(b, c.Make(size, 1)) {
				t.Errorf("%s of %d bytes differs from run to run", c.Name, size)
			}
			for block, at := 0, 0; at < size; block, at = block+1, at+Block {
				part := b[at:min(at+Block, size)]
				zero := len(bytes.Trim(part, "\x00")) == 0
				want := c.Name == "zero" || c.Name == "alternating" && block%2 == 0
				if zero != want {
					t.Fatalf("%s of %d bytes: block %d zero is %v, want %v", c.Name, size, block, zero, want)
				}
			}
		}
	}
}

func TestTargets(t *testing.T) {
	for _, size := range Sizes() {
		source := Contents()[1].Make(size, 1)
		kept := bytes.Clone(source)
		seen := map[string]bool{}
		for _, target := range Targets(source) {
			if seen[target.Name] {
				t.Errorf("two targets are named %q", target.Name)
			}
			seen[target.Name] = true
			for i := range target.Data {
				target.Data[i] = 0
			}
		}
		if !bytes.Equal(source, kept) {
			t.Fatal("a target aliases the source")
		}
	}
}
