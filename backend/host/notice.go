package host

import (
	"maps"
	"time"

	"github.com/rclone/rclone/fs"

	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// noticeAgain is how long a notice is not repeated: each stream of a transfer
// opens its source and target, and hears the same of them.
const noticeAgain = time.Minute

// maxSaid bounds what a helper can make this side remember, in lines.
const maxSaid = 256

// notice logs a line of a helper.
func (s *Session) notice(f wire.Frame) {
	defer f.Release()
	var m wire.Notice
	if f.Decode(&m) != nil {
		return
	}
	text := oneLine(m.Text, wire.MaxText)
	if s.host.news(text, time.Now()) {
		fs.Logf(s.host, "%s", text)
	} else {
		fs.Debugf(s.host, "%s", text)
	}
}

// news tells whether text was not logged lately.
func (h *Host) news(text string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.said, func(_ string, at time.Time) bool { return now.Sub(at) >= noticeAgain })
	if _, ok := h.said[text]; ok {
		return false
	}
	if h.said == nil || len(h.said) == maxSaid {
		h.said = map[string]time.Time{}
	}
	h.said[text] = now
	return true
}
