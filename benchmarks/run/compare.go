package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// row is one line of a table.
type row struct {
	what    string
	ours    string // keys of samples
	against string // empty: the figure itself is shown and held to the bar
	unit    string // empty: ns/op, shown as operations per second
	bar     bar
	note    string // behind the name of what it is held against
	full    bool   // only in the full form
	quick   bool   // only in the quick form
}

// bar is what the row has to reach; the zero bar is none.
type bar struct {
	least, most float64
}

func (b bar) String() string {
	switch {
	case b.least > 0:
		return "≥ " + plain(b.least)
	case b.most > 0:
		return "≤ " + plain(b.most)
	case b.most < 0:
		return "0"
	}
	return ""
}

// none is the bar of figures that have to be zero.
var none = bar{most: -1}

// spread is a median with the smallest and the largest.
type spread struct{ median, low, high float64 }

func spreadOf(v []float64) spread {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return spread{median: (v[(n-1)/2] + v[n/2]) / 2, low: v[0], high: v[n-1]}
}

// result is a measured row.
type result struct {
	row
	ourFigure, theirFigure string
	ratio                  spread // or the figure, when there is nothing to hold it against
	cpu                    float64
	rounds                 int
	missing                string // why there is no figure
}

// compare pairs round by round: what disturbed one round disturbed both sides.
func compare(r row, s samples) result {
	res := result{row: r}
	unit := r.unit
	if unit == "" {
		unit = "ns/op"
	}
	ours, theirs := s[r.ours][unit], s[r.against][unit]
	switch {
	case len(ours) == 0:
		res.missing = "no figure " + unit + " of " + r.ours
		return res
	case r.against == "":
		res.ratio, res.rounds = spreadOf(ours), len(ours)
		res.ourFigure = figure(res.ratio.median, r.unit)
		if r.unit == "" { // the bar of a row without a pair is in the row's own unit
			res.ratio = spreadOf(rates(ours))
		}
		return res
	case len(theirs) == 0:
		res.missing = "no figure " + unit + " of " + r.against
		return res
	}
	n := min(len(ours), len(theirs))
	ratios := make([]float64, n)
	for i := range n {
		ratios[i] = ours[i] / theirs[i]
		if r.unit == "" {
			ratios[i] = theirs[i] / ours[i]
		}
	}
	res.rounds, res.ratio = n, spreadOf(ratios)
	res.ourFigure, res.theirFigure = figure(spreadOf(ours[:n]).median, r.unit), figure(spreadOf(theirs[:n]).median, r.unit)
	if a, b := s[r.ours]["cpu-ns/op"], s[r.against]["cpu-ns/op"]; r.unit == "" && len(a) > 0 && len(b) > 0 {
		res.cpu = spreadOf(b).median / spreadOf(a).median
	}
	return res
}

func rates(ns []float64) []float64 {
	out := make([]float64, len(ns))
	for i, v := range ns {
		out[i] = 1e9 / v
	}
	return out
}

// verdict says whether the bar is reached, and by how much.
func (r *result) verdict() string {
	m := r.ratio.median
	switch {
	case r.missing != "":
		return "**not measured**: " + r.missing
	case r.bar == bar{}:
		return ""
	case r.bar == none:
		if m < 0.05 {
			return "reached"
		}
		return "**not reached**"
	case r.bar.least > 0:
		return judged(m >= r.bar.least, m/r.bar.least)
	default:
		return judged(m <= r.bar.most, m/r.bar.most)
	}
}

func judged(reached bool, part float64) string {
	if reached {
		return fmt.Sprintf("reached (%s of the bar)", percent(part))
	}
	return fmt.Sprintf("**not reached** (%s of the bar)", percent(part))
}

func percent(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) }

// figure shows a value of a unit as people read it.
func figure(v float64, unit string) string {
	switch {
	case unit == "":
		return thousands(1e9/v) + "/s"
	case strings.HasSuffix(unit, "ns") || strings.HasSuffix(unit, "ns/op"):
		switch {
		case v >= 1e6:
			return plain(v/1e6) + " ms"
		case v >= 1e3:
			return plain(v/1e3) + " us"
		}
		return plain(v) + " ns"
	}
	if v >= 1e5 {
		return thousands(v) + " " + unit
	}
	return plain(v) + " " + unit
}

// plain has three digits that count.
func plain(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		return thousands(v)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.*f", decimals(v), v), "0"), ".")
}

func decimals(v float64) int {
	if v >= 10 {
		return 1
	}
	if v != 0 && v < 0.1 {
		return 4
	}
	return 2
}

func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
