package blockdev

import "sync/atomic"

// sharing is how many streams are at work on one thing: the helper of each uses its share of the
// processors of its host.
type sharing struct{ streams atomic.Int32 }

// begin says that so many streams will work.
func (s *sharing) begin(streams int) { s.streams.Store(int32(streams)) }

// end says that one of them has ended, or could not begin: there is more for the others.
func (s *sharing) end() { s.streams.Add(-1) }

// tell has the helpers of one stream use the share that they have now, for what they are asked
// next. Where source and target are on one host, each stream has two of them there.
func (s *sharing) tell(of ...*lease) {
	for _, l := range of {
		n := 0
		for _, o := range of {
			if o.s.Host() == l.s.Host() {
				n++
			}
		}
		l.s.ShareProcessors(n * int(s.streams.Load()))
	}
}
