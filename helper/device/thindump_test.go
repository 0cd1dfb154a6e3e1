package device

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const goodDump = `<superblock uuid="" time="1" transaction="2" flags="0" version="2" data_block_size="128" nr_data_blocks="0">
  <device dev_id="3" mapped_blocks="6" transaction="0" creation_time="0" snap_time="1">
    <range_mapping origin_begin="0" data_begin="7" length="2" time="0"/>
    <single_mapping origin_block="2" data_block="0" time="1"/>
    <range_mapping origin_begin="100" data_begin="9" length="3" time="1"/>
  </device>
</superblock>
`

func TestThinDump(t *testing.T) {
	const chunk = 64 << 10
	data, total, err := thinDump(strings.NewReader(goodDump), 3, chunk)
	want := []span{{0, 3 * chunk}, {100 * chunk, 103 * chunk}}
	if err != nil || total != 6*chunk || !reflect.DeepEqual(data.list, want) {
		t.Errorf("%v, %d, %v", data.list, total, err)
	}
	empty := "<superblock data_block_size=\"128\">\n<device dev_id=\"3\" mapped_blocks=\"0\">\n</device>\n</superblock>"
	if data, total, err := thinDump(strings.NewReader(empty), 3, chunk); err != nil || total != 0 || len(data.list) != 0 {
		t.Errorf("an empty volume: %v, %d, %v", data.list, total, err)
	}
}

// A dump that tells less than all, or is not understood, is no map.
func TestThinDump_Err(t *testing.T) {
	lines := strings.SplitAfter(goodDump, "\n")
	for i := range lines[:len(lines)-1] {
		for name, text := range map[string]string{
			"cut":     strings.Join(lines[:i], ""),
			"lacking": strings.Join(slices.Delete(slices.Clone(lines), i, i+1), ""),
			"twice":   strings.Join(slices.Insert(slices.Clone(lines), i, lines[i]), ""),
		} {
			if data, _, err := thinDump(strings.NewReader(text), 3, 64<<10); err == nil {
				t.Errorf("line %d %s: %v", i, name, data.list)
			}
		}
	}
	for name, r := range map[string][2]string{
		"another volume":        {`dev_id="3"`, `dev_id="4"`},
		"another size of chunk": {`data_block_size="128"`, `data_block_size="256"`},
		"a shared part":         {`<single_mapping origin_block="2" data_block="0" time="1"/>`, `<ref name="1"/>`},
		"no length":             {` length="2"`, ``},
		"a length below zero":   {` length="2"`, ` length="-2"`},
		"no number":             {` length="2"`, ` length="x"`},
		"an open value":         {`length="2" time="0"/>`, `length="2`},
		"an overflow":           {`origin_begin="100"`, `origin_begin="9223372036854775807"`},
		"an overflow of bytes":  {`origin_begin="100"`, `origin_begin="140737488355327"`},
		"a range before others": {`origin_begin="100"`, `origin_begin="1"`},
		"more chunks":           {`mapped_blocks="6"`, `mapped_blocks="7"`},
		"fewer chunks":          {`mapped_blocks="6"`, `mapped_blocks="5"`},
		"a long line":           {`uuid=""`, `uuid="` + strings.Repeat("x", 1<<17) + `"`},
	} {
		text := strings.Replace(goodDump, r[0], r[1], 1)
		data, _, err := thinDump(strings.NewReader(text), 3, 64<<10)
		if text == goodDump || err == nil {
			t.Errorf("%s: %v", name, data.list)
		}
	}
}

// Any text is a map or an error, and a map lies within the volume that the kernel can have.
func FuzzThinDump(f *testing.F) {
	f.Add(goodDump)
	f.Add(strings.Replace(goodDump, `"100"`, `"9223372036854775807"`, 1))
	f.Fuzz(func(t *testing.T, text string) {
		data, total, err := thinDump(strings.NewReader(text), 3, 64<<10)
		if err != nil {
			return
		}
		at := int64(0)
		for _, s := range data.list {
			if s.from < at || s.to <= s.from || s.from%(64<<10) != 0 {
				t.Fatalf("%v", data.list)
			}
			at, total = s.to, total-(s.to-s.from)
		}
		if total != 0 {
			t.Fatalf("%v lacks %d", data.list, total)
		}
	})
}

func TestSpans_Next(t *testing.T) {
	s := spans{list: []span{{10, 20}, {40, 50}}}
	for _, c := range [][4]int64{
		{0, 100, 10, 20}, {10, 100, 10, 20}, {15, 100, 15, 20}, {20, 100, 40, 50}, {25, 45, 40, 45}, {0, 5, 5, 5}, {0, 10, 10, 10},
		{20, 40, 40, 40}, {50, 100, 100, 100}, {12, 14, 12, 14}, {60, 60, 60, 60},
	} {
		if start, stop := s.next(c[0], c[1]); start != c[2] || stop != c[3] {
			t.Errorf("next(%d, %d) = %d, %d; want %d, %d", c[0], c[1], start, stop, c[2], c[3])
		}
	}
}

// Against a model that has a flag for each byte.
func TestSpans_Fill(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var s spans
		var model [64]bool
		for at := int64(0); at < 50; {
			from := at + 1 + random.Int64N(6)
			at = from + 1 + random.Int64N(6)
			if err := s.add(from, at); err != nil {
				t.Fatal(err)
			}
			for i := from; i < at; i++ {
				model[i] = true
			}
		}
		for range 5 {
			from := random.Int64N(60)
			to := from + random.Int64N(64-from)
			s.fill(from, to)
			for i := from; i < to; i++ {
				model[i] = true
			}
			for off := range int64(64) {
				start, _ := s.next(off, 64)
				want := off
				for want < 64 && !model[want] {
					want++
				}
				if start != want {
					t.Fatalf("%v: the next byte from %d on is %d, not %d", s.list, off, start, want)
				}
			}
		}
	}
}

// More ranges than are kept become fewer, and none of them is lost.
func TestSpans_Bound(t *testing.T) {
	const chunk, count = 64 << 10, 3*maxSpans + 7
	var s spans
	gap := func(i int64) int64 { return chunk * (1 + i%4*i%7) }
	at := int64(0)
	for i := range int64(count) {
		if err := s.add(at, at+chunk); err != nil {
			t.Fatal(err)
		}
		if len(s.list) > maxSpans {
			t.Fatalf("%d ranges", len(s.list))
		}
		at += chunk + gap(i)
	}
	if holes := func() (n int64) {
		for i := 1; i < len(s.list); i++ {
			n += s.list[i].from - s.list[i-1].to
		}
		return n
	}(); holes < at/8 {
		t.Errorf("%d bytes of holes are left of %d", holes, at)
	}
	at = 0
	for i := range int64(count) {
		if start, stop := s.next(at, at+chunk); start != at || stop != at+chunk {
			t.Fatalf("range %d is lost", i)
		}
		at += chunk + gap(i)
	}
}
