package deltafile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/rclone-blockdev/rclone-blockdev/helper/block"
	"github.com/rclone-blockdev/rclone-blockdev/helper/manifest"
	"github.com/rclone-blockdev/rclone-blockdev/helper/wire"
)

// state is the content of an image, of which each extent is a word at its beginning, or zero.
type state []string

func (s state) size() int64 { return int64(len(s)) << 20 }

func (s state) extent(i int64) []byte {
	b := make([]byte, block.ExtentSize)
	copy(b, s[i])
	return b
}

func (s state) manifest(t *testing.T) (m []byte, root block.Digest) {
	t.Helper()
	var out bytes.Buffer
	w, err := manifest.NewWriter(&out, manifest.Header{BlockSize: unit, Size: s.size(), Of: s.size()})
	for i := range s {
		if err == nil {
			err = w.Add(digest(s.extent(int64(i))))
		}
	}
	if err == nil {
		root, err = w.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), root
}

// link is a delta between two states, the first one nil for a full one, with the records that are named.
func link(t *testing.T, before, now state, extents ...int64) Link {
	t.Helper()
	h := Header{BlockSize: unit, Size: now.size(), BaseSize: -1}
	if before != nil {
		h.BaseSize = before.size()
		_, h.BaseRoot = before.manifest(t)
	}
	var all []Record
	for _, i := range extents {
		e := now.extent(i)
		all = append(all, Record{i, digest(e), wire.EncodingRaw, []wire.Run{{Count: 1}}, e[:unit]})
	}
	m, _ := now.manifest(t)
	return stored(strings.Join(now, "-"), sample(t, h, all, m))
}

func stored(name string, b []byte) Link {
	return Link{name, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

func TestLoad(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	a, b, c := state{"1", "2", "3", ""}, state{"1", "x", "", "4"}, state{"y", "x", "", "4", "5"}
	links := []Link{link(t, nil, a, 0, 1, 2), link(t, a, b, 1, 3), link(t, b, c, 0, 4)}
	for first := range links {
		chain, err := Load(links[first:])
		if err != nil {
			t.Fatal(err)
		}
		_, root := c.manifest(t)
		if chain.Used != 3-first || chain.Root != root || chain.Size != c.size() || chain.Full() != (first == 0) || chain.Last != "y-x--4-5" {
			t.Errorf("%d: %+v", first, chain)
		}
		for i := range int64(len(c)) {
			rec, err := chain.Record(i)
			has, _ := chain.Has(i)
			// From b on, what has not changed since is not there; zeros are known in any case.
			want := first == 0 || i == 0 || i == 4 || first == 1 && (i == 1 || i == 3)
			if c[i] == "" {
				if !has || !errors.Is(err, ErrUnknown) {
					t.Errorf("%d: zeros: %v %v", first, has, err)
				}
				continue
			}
			if has != want || want != (err == nil) || want && !bytes.HasPrefix(rec.Data, []byte(c[i])) {
				t.Errorf("%d: extent %d: %v, %v", first, i, has, err)
			}
		}
		if _, err := chain.Record(5); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		d, err := chain.Digests(block.Range{Offset: 3 << 20, Length: 2 << 20, BlockSize: unit})
		if err != nil || len(d) != 2 || d[1] != digest(c.extent(4)) {
			t.Errorf("%v", err)
		}
		chain.Close()
	}
	// What is before a full one is not even opened.
	never := Link{"never", func() (io.ReadCloser, error) { t.Error("opened"); return nil, os.ErrNotExist }}
	chain, err := Load([]Link{never, link(t, nil, a, 0, 1, 2)})
	if err != nil || chain.Used != 1 {
		t.Fatal(err)
	}
	chain.Close()
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// The last record of an extent counts, and none when it is zero in the end.
func TestLoad_Twice(t *testing.T) {
	a, now := state{"1", "2"}, state{"new", ""}
	m, _ := now.manifest(t)
	_, root := a.manifest(t)
	var all []Record
	for i, word := range []string{"old", "gone", "new"} {
		e := state{word}.extent(0)
		all = append(all, Record{int64(i % 2), digest(e), wire.EncodingRaw, []wire.Run{{Count: 1}}, e[:unit]})
	}
	chain, err := Load([]Link{stored("x", sample(t, Header{BlockSize: unit, Size: now.size(), BaseSize: a.size(), BaseRoot: root}, all, m))})
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	if rec, err := chain.Record(0); err != nil || !bytes.HasPrefix(rec.Data, []byte("new")) {
		t.Errorf("%v", err)
	}
	if _, err := chain.Record(1); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
}

func TestLoad_Err(t *testing.T) {
	a, b, c := state{"1", "2"}, state{"1", "x"}, state{"y", "x"}
	fault := errors.New("line down")
	for _, tt := range []struct {
		name  string
		want  string
		links []Link
	}{
		{"none", "no delta", nil},
		{"a gap", "y-x does not follow 1-2", []Link{link(t, nil, a, 0, 1), link(t, b, c, 0)}},
		{"the wrong order", "1-x does not follow y-x", []Link{link(t, nil, a, 0, 1), link(t, b, c, 0), link(t, a, b, 1)}},
		{"another size", "does not follow", []Link{link(t, nil, append(b, ""), 0, 1), link(t, b, c, 0)}},
		{"not all of a full one", "1-2: no valid delta: nothing is there of extent 1", []Link{link(t, nil, a, 0)}},
		{"not all of a full chain", "no valid delta: nothing is there of extent 1", []Link{link(t, nil, a, 0, 1), link(t, a, b)}},
		{"another state", "extent 0", []Link{stored("odd", func() []byte {
			m, _ := a.manifest(t)
			e := b.extent(1)
			return sample(t, Header{BlockSize: unit, Size: a.size(), BaseSize: 0}, []Record{{0, digest(e), wire.EncodingRaw, []wire.Run{{Count: 1}}, e[:unit]}}, m)
		}())}},
		{"no file", "gone: line down", []Link{{"gone", func() (io.ReadCloser, error) { return nil, fault }}}},
		{"no delta", "text: no valid delta", []Link{stored("text", []byte("hello"))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chain, err := Load(tt.links)
			if err == nil {
				chain.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("%v", err)
			}
		})
	}
}
