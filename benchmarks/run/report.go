package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// table is a group of rows with one chart.
type table struct {
	name  string // file name of the chart
	title string
	about string   // what was done, for the reader
	from  []string // names of the sources
	rows  []row
}

type measured struct {
	table
	results []result
}

// A table stands in RESULTS.md between two marks of its own, so that a run of
// some tables leaves the others; a new one goes before tablesEnd.
const tablesEnd = "<!-- bench: new tables go above -->"

func marks(name string) (begin, end string) {
	return "<!-- bench " + name + ": begin -->\n", "<!-- bench " + name + ": end -->\n"
}

// write prints the table as Markdown, wide enough for a terminal.
func (m *measured) write(w io.Writer) {
	fmt.Fprintf(w, "### %s\n\n%s\n\n", m.title, m.about)
	fmt.Fprintf(w, "| | ours | against | ratio, median (min..max) | by CPU | bar | |\n|---|---|---|---|---|---|---|\n")
	for i := range m.results {
		r := &m.results[i]
		ratio, cpu, against := "", "", r.theirFigure
		if r.missing == "" {
			ratio = fmt.Sprintf("%s (%s..%s)", plain(r.ratio.median), plain(r.ratio.low), plain(r.ratio.high))
		}
		if r.against == "" && r.missing == "" {
			ratio = ""
			if r.rounds > 1 {
				ratio = fmt.Sprintf("(%s..%s)", figureOf(r.ratio.low, r.unit), figureOf(r.ratio.high, r.unit))
			}
		}
		if r.cpu > 0 {
			cpu = plain(r.cpu)
		}
		if r.note != "" && against != "" {
			against += ", " + r.note
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", r.what, r.ourFigure, against, ratio, cpu, barOf(&r.row), r.verdict())
	}
	fmt.Fprintln(w)
}

// barOf is the bar in the row's unit.
func barOf(r *row) string {
	if r.against == "" && r.bar.most > 0 {
		return "≤ " + figureOf(r.bar.most, r.unit)
	}
	return r.bar.String()
}

// figureOf shows what compare holds against a bar: rates are rates there.
func figureOf(v float64, unit string) string {
	if unit == "" {
		return thousands(v) + "/s"
	}
	return figure(v, unit)
}

// splice puts the table's text in its place and keeps the rest: the history.
func splice(old, name, text string) (string, error) {
	first, last := marks(name)
	text = first + text + last
	begin, end := strings.Index(old, first), strings.Index(old, last)
	switch {
	case begin < 0 && end < 0:
		at := strings.Index(old, tablesEnd)
		if at < 0 {
			return old + text, nil
		}
		return old[:at] + text + old[at:], nil
	case begin < 0 || end < begin:
		return "", fmt.Errorf("the marks of table %s are not in order", name)
	}
	return old[:begin] + text + old[end+len(last):], nil
}

// save writes RESULTS.md and the charts. A file that is not there is begun.
func save(dir, machine string, tables []measured) error {
	if err := os.MkdirAll(filepath.Join(dir, "charts"), 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, "RESULTS.md")
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	results := string(raw)
	for i := range tables {
		m := &tables[i]
		var b strings.Builder
		m.write(&b)
		if svg := chart(m); svg != "" {
			file := filepath.Join("charts", m.name+".svg")
			fmt.Fprintf(&b, "![%s](%s)\n\n", m.title, filepath.ToSlash(file))
			if err := os.WriteFile(filepath.Join(dir, file), []byte(svg), 0o644); err != nil {
				return err
			}
		}
		b.WriteString(machine + "\n\n")
		if results, err = splice(results, m.name, b.String()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return os.WriteFile(path, []byte(results), 0o644)
}
