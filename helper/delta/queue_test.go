package delta

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/compress"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// together runs the victim, says the messages, and returns how many queued frames went together each time.
func together(t *testing.T, victim func(Link) error, messages ...wire.Message) []int {
	t.Helper()
	p, gone := newPeer(), make(chan struct{})
	go func() {
		defer close(gone)
		_ = victim(p) // the stream ends too early
	}()
	synctest.Wait()
	for _, m := range messages {
		if !p.say(frame(m), gone) {
			t.Fatalf("%T was refused", m)
		}
	}
	close(p.frames)
	<-gone
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.batches
}

// Answers go together while the sender goes on talking, but not for long: it waits for them.
func TestReceive_Together(t *testing.T) {
	const extents = 2*answerBatch + answerBatch/2
	r := block.Range{Length: extents * block.ExtentSize, BlockSize: block.DefaultSize}
	synctest.Test(t, func(t *testing.T) {
		wants := make([]wire.Message, extents)
		for i := range wants {
			wants[i] = want(int64(i))
		}
		got := together(t, func(l Link) error {
			_, err := Receive(context.Background(), l, memdev.FromBytes(image(int(r.Length), 1)), r, Window)
			return err
		}, wants...)
		if !slices.Equal(got, []int{answerBatch, answerBatch}) {
			t.Errorf("answers went together as %d", got)
		}
	})
}

// What a sender asks for goes together when it has much to ask for, and at once when it has nothing else to do.
func TestSend_Together(t *testing.T) {
	const extents = Hold
	r := block.Range{Length: extents * block.ExtentSize, BlockSize: block.DefaultSize}
	synctest.Test(t, func(t *testing.T) {
		all := make([]block.Digest, extents-1)
		for i := range all {
			all[i] = block.Sum([]byte("other"))
		}
		got := together(t, func(l Link) error {
			_, err := Send(context.Background(), l, memdev.FromBytes(image(int(r.Length), 1)), r, Window, compress.NewEncoder(wire.CompressOff))
			return err
		}, digests(0, all...), digests(extents-1, all[0]))
		total := 0
		for _, n := range got {
			total += n
		}
		if total != extents || len(got) > 3 || got[len(got)-1] != 1 {
			t.Errorf("questions of %d extents went together as %d", extents, got)
		}
	})
}
