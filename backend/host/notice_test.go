package host

import (
	"testing"
	"time"
)

func TestHost_News(t *testing.T) {
	h := newHost(Config{})
	start := time.Now()
	for _, test := range []struct {
		text  string
		after time.Duration
		want  bool
	}{
		{"torn", 0, true},
		{"torn", time.Second, false},
		{"other", time.Second, true},
		{"torn", noticeAgain, true},
		{"other", noticeAgain, false},
	} {
		if got := h.news(test.text, start.Add(test.after)); got != test.want {
			t.Errorf("%q after %v: news is %v", test.text, test.after, got)
		}
	}
}
