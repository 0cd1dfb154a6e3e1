package main

import (
	"slices"
	"testing"
)

func TestLines_scale(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		log    bool
		ticks  []float64
	}{
		{"within a decade", []float64{1, 3}, false, []float64{0, 1, 2, 3}},
		{"a value on the last tick", []float64{2, 10}, false, []float64{0, 2, 4, 6, 8, 10}},
		{"more than a decade", []float64{0.6, 11}, true, []float64{0.5, 1, 2, 5, 10, 20}},
		{"many decades", []float64{0.02, 900}, true, []float64{0.01, 0.1, 1, 10, 100, 1000}},
		{"decades from tick to tick", []float64{0.1, 1000}, true, []float64{0.1, 1, 10, 100, 1000}},
		{"nothing", nil, false, []float64{0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := series{"blockdev", nil}
			for _, v := range c.values {
				line.values = append(line.values, &spread{v, v, v, 1})
			}
			s := lines{series: []series{line, {"cat", []*spread{nil}}}}.scale()
			if s.log != c.log || !slices.Equal(s.ticks, c.ticks) {
				t.Errorf("log %v, ticks %v, want %v, %v", s.log, s.ticks, c.log, c.ticks)
			}
			for _, v := range c.values {
				if y := s.place(v); y < top || y > height-bottom {
					t.Errorf("%v is drawn at %d, outside of %d to %d", v, y, top, height-bottom)
				}
			}
		})
	}
}

func TestApart(t *testing.T) {
	for _, c := range []struct{ in, want []int }{
		{nil, nil},
		{[]int{10, 100}, []int{10, 100}},
		{[]int{50, 50, 50}, []int{50, 60, 70}},
		{[]int{90, 95, 99}, []int{80, 90, 100}},
		{[]int{10, 99, 99}, []int{10, 90, 100}},
		{[]int{85, 85, 85, 85}, []int{70, 80, 90, 100}},
	} {
		if got := apart(c.in, 10, 100); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.in, got, c.want)
		}
	}
}
