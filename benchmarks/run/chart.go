package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// Measures of a chart in pixels.
const (
	chartWidth  = 960
	labelWidth  = 390
	figureWidth = 200
	rowHeight   = 24
	headHeight  = 64
	footHeight  = 34
)

// chart draws the ratios of a table as horizontal bars on a logarithmic axis: a
// thin line from the smallest to the largest, and a mark where the bar is. Rows
// without a pair stand relative to their bar, which is 1 then. Empty when there is
// nothing to draw.
func chart(m *measured) string {
	var lines []drawn
	low, high := 0.5, 2.0
	for i := range m.results {
		d, ok := draw(&m.results[i])
		if !ok {
			continue
		}
		lines = append(lines, d)
		low, high = min(low, d.low), max(high, d.high)
		if d.bar > 0 {
			low, high = min(low, d.bar), max(high, d.bar)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	// What is a thousand times as fast would leave no room for the others.
	axis := axis{math.Floor(math.Log10(max(low, 0.01)) * 2), math.Ceil(math.Log10(min(high, 100)) * 2)}
	height := headHeight + rowHeight*len(lines) + footHeight
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="Helvetica, Arial, sans-serif" font-size="12">`+"\n",
		chartWidth, height, chartWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", chartWidth, height)
	text(&b, 16, 24, "start", "#1a1a1a", `font-size="15" font-weight="bold"`, m.title)
	text(&b, 16, 44, "start", "#666666", "", "ratio, logarithmic; bar = median, line = smallest to largest round, black mark = what is demanded")
	bottom := headHeight + rowHeight*len(lines)
	for _, tick := range axis.ticks() {
		x := axis.x(tick)
		stroke := "#e4e4e4"
		if tick == 1 {
			stroke = "#9a9a9a"
		}
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", x, headHeight-6, x, bottom+4, stroke)
		text(&b, x, float64(bottom+20), "middle", "#666666", "", plain(tick))
	}
	for i, d := range lines {
		d.write(&b, axis, headHeight+rowHeight*i)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// drawn is one line of a chart.
type drawn struct {
	label, figure     string
	median, low, high float64
	bar               float64 // 0 when there is none
	reached           bool
	judged            bool
}

func draw(r *result) (drawn, bool) {
	if r.missing != "" || r.bar == none || r.against == "" && r.bar == (bar{}) {
		return drawn{}, false
	}
	d := drawn{label: r.what, median: r.ratio.median, low: r.ratio.low, high: r.ratio.high, bar: max(r.bar.least, r.bar.most)}
	if r.note != "" {
		d.label += " / " + r.note
	}
	d.figure = plain(d.median)
	if d.judged = d.bar > 0; d.judged {
		d.reached = r.bar.least > 0 && d.median >= d.bar || r.bar.most > 0 && d.median <= d.bar
		d.figure += " (" + r.bar.String() + ")"
	}
	if r.against == "" {
		d.figure = figureOf(d.median, r.unit) + " (" + barOf(&r.row) + ")"
		d.median, d.low, d.high, d.bar = d.median/d.bar, d.low/d.bar, d.high/d.bar, 1
	}
	if d.low <= 0 || math.IsInf(d.high, 0) || math.IsNaN(d.median) {
		return drawn{}, false
	}
	return d, true
}

func (d *drawn) write(b *strings.Builder, a axis, y int) {
	colour := "#7f9bb3"
	switch {
	case d.reached:
		colour = "#3d8b5f"
	case d.judged:
		colour = "#c4653a"
	}
	mid := float64(y) + rowHeight/2
	zero, x := a.x(1), a.x(d.median)
	text(b, labelWidth-10, mid+4, "end", "#1a1a1a", "", clip(d.label, 62))
	fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="14" fill="%s"/>`+"\n", min(zero, x), mid-7, max(math.Abs(x-zero), 1.5), colour)
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#333333" stroke-width="1.2"/>`+"\n", a.x(d.low), mid, a.x(d.high), mid)
	if d.bar > 0 {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#000000" stroke-width="2.5"/>`+"\n", a.x(d.bar), mid-10, a.x(d.bar), mid+10)
	}
	text(b, chartWidth-figureWidth+12, mid+4, "start", colour, `font-weight="bold"`, d.figure)
}

// axis runs from 10^(low/2) to 10^(high/2); what is beyond stands at its end.
type axis struct{ low, high float64 }

func (a axis) x(v float64) float64 {
	part := min(max((2*math.Log10(v)-a.low)/(a.high-a.low), 0), 1)
	return labelWidth + part*(chartWidth-labelWidth-figureWidth)
}

// ticks are 1, 2 and 5 of each decade where there is room, else only 1.
func (a axis) ticks() []float64 {
	steps := []float64{1, 2, 5}
	if a.high-a.low > 6 {
		steps = steps[:1]
	}
	var out []float64
	for e := math.Floor(a.low / 2); e <= a.high/2; e++ {
		for _, s := range steps {
			v := s * math.Pow(10, e)
			if l := 2 * math.Log10(v); l >= a.low-1e-9 && l <= a.high+1e-9 {
				out = append(out, v)
			}
		}
	}
	return out
}

func text(b *strings.Builder, x, y float64, anchor, fill, more, s string) {
	var escaped strings.Builder
	_ = xml.EscapeText(&escaped, []byte(s)) // a Builder does not fail
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s" %s>%s</text>`+"\n", x, y, anchor, fill, more, escaped.String())
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
