package host

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/fstests/edges"
	"github.com/rclone-blockdev/rclone-blockdev/fstests/harness"
	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

func TestSession_Inquiries(t *testing.T) {
	harness.Goroutines(t)
	ctx, s := t.Context(), here(t)
	path := imageFile(t, []byte("hello"))
	facts, err := s.Describe(ctx, path, false)
	if err != nil || len(facts) < 3 || facts[0] != (wire.Property{Key: "kind", Value: "file"}) {
		t.Errorf("%v, %v", facts, err)
	}
	if _, err := s.Describe(ctx, path+"x", false); !errors.Is(err, wire.CodeNotFound) {
		t.Errorf("describe of nothing: %v", err)
	}
	for _, n := range []int64{0, 1 << 20} {
		if took, err := s.Ping(ctx, n); err != nil || took <= 0 {
			t.Errorf("ping %d: %v, %v", n, took, err)
		}
	}
	other := opened(t, []byte("other"))
	same := opened(t, []byte("hello"))
	if _, err := s.OpenRead(ctx, path); err != nil {
		t.Fatal(err)
	}
	root := func(s *Session) block.Digest {
		sum, err := s.Root(ctx, rangeOf(5), func(int64) {})
		if err != nil {
			t.Error(err)
		}
		return sum
	}
	if root(s) != root(same) || root(s) == root(other) {
		t.Error("roots do not tell equal content from other content")
	}
	if _, err := s.Root(ctx, rangeOf(6), func(int64) {}); !errors.Is(err, wire.CodeProtocol) {
		t.Errorf("root of more than there is: %v", err)
	}
	usable(t, s)
}

// What a helper says of its disks is printable, and bounded.
func TestSession_Inquiries_untrusted(t *testing.T) {
	harness.Goroutines(t)
	ctx := t.Context()
	s := played(t, new(witness).says(&wire.Properties{Properties: []wire.Property{{Key: "model", Value: "a\x1b[2J\nb"}}}, &wire.Done{}))
	if facts, err := s.Describe(ctx, "/x", false); err != nil || len(facts) != 1 || facts[0].Value != "a[2J b" {
		t.Errorf("%q, %v", facts, err)
	}
	batch := &wire.Properties{Properties: make([]wire.Property, wire.MaxDirectory)}
	for i := range batch.Properties {
		batch.Properties[i].Key = "k"
	}
	endless := make([]wire.Message, maxProperties/wire.MaxDirectory+1)
	for i := range endless {
		endless[i] = batch
	}
	if _, err := played(t, new(witness).says(endless...)).Describe(ctx, "/x", false); err == nil || !strings.Contains(err.Error(), "protocol error") {
		t.Errorf("endless facts: %v", err)
	}
	ten := &wire.Data{Data: make([]byte, 10)}
	for name, says := range map[string][]wire.Message{
		"too few": {ten, &wire.Done{}}, "too many": {ten, ten, ten, &wire.Done{}}, "nothing": {&wire.Done{}}, "holes": {&wire.Hole{Length: 20}, &wire.Done{}},
	} {
		if _, err := played(t, new(witness).says(says...)).Ping(ctx, 20); err == nil {
			t.Errorf("ping: %s is fine", name)
		}
	}
	if _, err := played(t, new(witness).says(&wire.Done{})).Root(ctx, rangeOf(1), func(int64) {}); err == nil {
		t.Error("no root is a root")
	}
}

// A comparison says what Join then does, and leaves the target alone.
func TestCompare(t *testing.T) {
	harness.Goroutines(t)
	for i, size := range edges.Sizes() {
		source := edges.Contents()[i%len(edges.Contents())].Make(size, 1)
		for _, old := range edges.Targets(source) {
			if old.Data == nil {
				continue
			}
			path, done := imageFile(t, old.Data), int64(0)
			src, dst := opened(t, source), here(t)
			if _, err := dst.OpenRead(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			said, err := Compare(t.Context(), src, dst, rangeOf(int64(size)), func(n int64) { done += n })
			if err != nil || done != int64(size) {
				t.Fatalf("%d %s: %d bytes reported, %v", size, old.Name, done, err)
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, old.Data) {
				t.Fatalf("%d %s: the comparison wrote, %v", size, old.Name, err)
			}
			if err := dst.Close(t.Context(), false, 0); err != nil {
				t.Fatal(err)
			}
			did, err := Join(t.Context(), src, openTarget(t, path, int64(size)), rangeOf(int64(size)), func(int64) {})
			if err != nil {
				t.Fatal(err)
			}
			a, b := said.Receiver, did.Receiver
			if a.Equal != b.Equal || a.Data != b.Data || a.Zeroed != b.Zeroed || said.Sender.Data != did.Sender.Data {
				t.Errorf("%d %s: said %+v, did %+v", size, old.Name, said, did)
			}
		}
	}
}

// Data does not pass in a comparison, nor a patch without its data in a transfer.
func TestJoin_PatchEncoding(t *testing.T) {
	harness.Goroutines(t)
	raw := &wire.Patch{Runs: []wire.Run{{Count: 1}}, Data: make([]byte, 4096)}
	bare := &wire.Patch{Encoding: wire.EncodingNone, Runs: []wire.Run{{Count: 1}}}
	for name, c := range map[string]struct {
		join func(ctx context.Context, src, dst *Session, r block.Range, progress func(int64)) (*Result, error)
		from string
		says wire.Message
		pass bool
	}{
		"data in a transfer":      {Join, "source", raw, true},
		"no data in a transfer":   {Join, "source", bare, false},
		"data in a comparison":    {Compare, "source", raw, false},
		"no data in a comparison": {Compare, "source", bare, true},
		"resend in a transfer":    {Join, "target", &wire.Resend{}, true},
		"resend in a comparison":  {Compare, "target", &wire.Resend{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var liar, victim witness
			src, dst := played(t, liar.says(c.says, &wire.Done{})), played(t, victim.says())
			if c.from == "target" {
				src, dst = dst, src
			}
			quickly(t, "join", func() {
				if _, err := c.join(t.Context(), src, dst, rangeOf(8<<20), func(int64) {}); err == nil {
					t.Error("success")
				}
			})
			if victim.saw(c.says.Type()) != c.pass {
				t.Errorf("passed on is %v", !c.pass)
			}
		})
	}
}
