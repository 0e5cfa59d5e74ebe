package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const output = `goos: linux
BenchmarkVerify/P-256/round=1/way=ours-2         	    3741	     1000 ns/op	      961 cpu-ns/op	       0 allocs/op
BenchmarkVerify/P-256/round=1/way=naive-2        	     100	    12000 ns/op	     9610 cpu-ns/op	       4 allocs/op
not a line
BenchmarkVerify/P-256/round=2/way=ours-2         	    3741	     2000 ns/op	      961 cpu-ns/op	       0 allocs/op
BenchmarkVerify/P-256/round=2/way=naive-2        	     100	    20000 ns/op	     9610 cpu-ns/op	       4 allocs/op
PASS
`

func read(t *testing.T, text string) samples {
	t.Helper()
	s := samples{}
	require.NoError(t, s.read(strings.NewReader(text), ""))
	return s
}

func TestSamples(t *testing.T) {
	t.Parallel()
	s := read(t, output)
	require.Len(t, s, 2)
	require.Equal(t, []float64{1000, 2000}, s["Verify/P-256/way=ours"]["ns/op"])
	require.Equal(t, "Sign/P-256", key("BenchmarkSign/P-256-8"))
	require.Error(t, samples{}.read(strings.NewReader("BenchmarkX-2 10 x ns/op\n"), ""))
}

func TestCompareIsRoundByRound(t *testing.T) {
	t.Parallel()
	s := read(t, output)
	pair := row{what: "v", ours: "Verify/P-256/way=ours", against: "Verify/P-256/way=naive"}
	r := compare(pair, s)
	require.Equal(t, spread{11, 10, 12}, r.ratio)
	require.Equal(t, 10.0, r.cpu)
	for _, c := range []struct {
		bar  bar
		want string
	}{
		{bar{least: 10}, "reached (110 % of the bar)"},
		{bar{least: 22}, "**not reached** (50 % of the bar)"},
		{bar{most: 11}, "reached (100 % of the bar)"},
		{bar{most: 10}, "**not reached** (110 % of the bar)"},
		{bar{}, ""},
	} {
		r.bar = c.bar
		require.Equal(t, c.want, r.verdict())
	}
	pair.against = "nobody"
	missing := compare(pair, s)
	require.Contains(t, missing.verdict(), "not measured")

	allocs := compare(row{ours: pair.ours, unit: "allocs/op", bar: none}, s)
	require.Equal(t, "reached", allocs.verdict())
	allocs = compare(row{ours: "Verify/P-256/way=naive", unit: "allocs/op", bar: none}, s)
	require.Equal(t, "**not reached**", allocs.verdict())
}

func TestFigures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v    float64
		unit string
		want string
	}{
		{1e6, "", "1,000/s"},
		{1234, "ns/op", "1.23 us"},
		{2.5e6, "p50-ns", "2.5 ms"},
		{12, "cpu-ns/op", "12 ns"},
		{0, "allocs/op", "0 allocs/op"},
		{1234567, "bytes", "1,234,567 bytes"},
		{100, "bytes", "100 bytes"},
	} {
		require.Equal(t, c.want, figure(c.v, c.unit))
	}
}

func TestSpliceKeepsTheHistory(t *testing.T) {
	t.Parallel()
	const old = "# Results\n\nIntro.\n\n" + tablesEnd + "\n\n## Old\n\nx\n"
	begin, end := marks("hsm")
	one, err := splice(old, "hsm", "new\n")
	require.NoError(t, err)
	require.Equal(t, "# Results\n\nIntro.\n\n"+begin+"new\n"+end+tablesEnd+"\n\n## Old\n\nx\n", one)
	other, err := splice(one, "verify", "v\n")
	require.NoError(t, err)
	two, err := splice(other, "hsm", "newer\n")
	require.NoError(t, err)
	require.Equal(t, strings.Replace(other, "new\n", "newer\n", 1), two)
	_, err = splice(end+begin, "hsm", "x")
	require.Error(t, err)
	begun, err := splice("", "hsm", "x\n")
	require.NoError(t, err)
	require.Equal(t, begin+"x\n"+end, begun)
}

// A chart is well-formed whatever was measured, and every row that has figures is
// in it.
func TestChart(t *testing.T) {
	t.Parallel()
	m := measured{table: table{title: "A & B <test>"}}
	require.Empty(t, chart(&m))
	s := read(t, output)
	for _, b := range []bar{{}, {least: 15}, {most: 15}} {
		m.results = append(m.results, compare(row{what: "verify", ours: "Verify/P-256/way=ours", against: "Verify/P-256/way=naive", bar: b}, s))
	}
	m.results = append(m.results,
		compare(row{what: "absolute", ours: "Verify/P-256/way=ours", unit: "ns/op", bar: bar{most: 2000}}, s),
		compare(row{what: "zero", ours: "Verify/P-256/way=ours", unit: "allocs/op", bar: none}, s),
		compare(row{what: "missing", ours: "nobody"}, s))
	svg := chart(&m)
	require.Equal(t, 3, strings.Count(svg, ">verify<"))
	require.Equal(t, 1, strings.Count(svg, ">absolute<"))
	require.NotContains(t, svg, ">zero<")
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
}

func TestTablesNameWhatThereIs(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, tab := range tables {
		require.False(t, seen[tab.name], tab.name)
		seen[tab.name] = true
		require.NotEmpty(t, tab.rows)
		for _, from := range tab.from {
			s, ok := sources[from]
			require.True(t, ok, "%s reads %s", tab.name, from)
			for _, dir := range append([]string{s.test, s.program}, s.c) {
				if dir != "" && s.module == "" {
					_, err := os.Stat("../../" + dir)
					require.NoError(t, err)
				}
			}
		}
	}
}
