package delta

import (
	"context"
	"errors"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/device/memdev"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// A sender that has failed still takes what the receiver says until it does not write any more: else each would wait
// for the other to read, where little fits between them.
func TestSend_FailsWhileBothWrite(t *testing.T) {
	const size = 24 * block.ExtentSize
	source, before := image(size, 1), image(size, 2)
	all := digestsOf(t, source)
	broken := errors.New("broken")
	for n := range int64(24) {
		for name, prepare := range map[string]func(tr *transfer){
			"source": func(tr *transfer) {
				dev := memdev.FromBytes(source)
				dev.Inject(memdev.Fault{Op: memdev.Read, Off: n * block.ExtentSize, Err: broken})
				tr.src = dev
			},
			"refused": func(tr *transfer) {
				heard := int64(0)
				tr.prepare = func(sender, _ *link) {
					sender.edit = func(f *wire.Frame) {
						if heard++; heard == n+1 {
							f.Type = wire.TypeWindow
						}
					}
				}
			},
			"delivered": func(tr *transfer) {
				tr.send = func(ctx context.Context, l Link, src Source, r block.Range, window int64) (*wire.Summary, error) {
					return Deliver(ctx, l, r, window, all, func(p *wire.Patch) error {
						if p.Extent == n {
							return broken
						}
						p.Encoding, p.Data = wire.EncodingRaw, source[p.Extent*block.ExtentSize:][:block.ExtentSize]
						p.Runs = append(p.Runs[:0], wire.Run{Count: block.ExtentSize / 4096})
						return nil
					})
				}
			},
		} {
			tr := transfer{src: memdev.FromBytes(source), tgt: memdev.FromBytes(before), r: rangeOf(size, 4096), window: 16}
			prepare(&tr)
			s, r := tr.run(t)
			if s.err == nil || r.err == nil || errors.Is(s.err, errStuck) || errors.Is(r.err, errStuck) {
				t.Errorf("%s, %d: sender %v, receiver %v", name, n, s.err, r.err)
			}
			if name != "refused" && !errors.Is(s.err, broken) {
				t.Errorf("%s, %d: sender %v", name, n, s.err)
			}
		}
	}
}
