package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// samples holds what the sources measured: for each benchmark, without
// "Benchmark" and the number of CPUs, and each unit the values in order of the
// rounds. A part "round=N" of the name is left out: a source that alternates by
// itself uses it.
type samples map[string]map[string][]float64

// read takes every benchmark line and leaves other output aside; as goes before
// the names.
func (s samples) read(r io.Reader, as string) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := s.line(lines.Text(), as); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (s samples) line(text, as string) error {
	f := strings.Fields(text)
	if len(f) < 4 || len(f)%2 != 0 || !strings.HasPrefix(f[0], "Benchmark") {
		return nil
	}
	if _, err := strconv.ParseInt(f[1], 10, 64); err != nil {
		return nil
	}
	units := map[string]float64{}
	for i := 2; i < len(f); i += 2 {
		v, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return fmt.Errorf("line %q: %w", text, err)
		}
		units[f[i+1]] = v
	}
	name := as + key(f[0])
	if s[name] == nil {
		s[name] = map[string][]float64{}
	}
	for unit, v := range units {
		s[name][unit] = append(s[name][unit], v)
	}
	return nil
}

// key is the name under which a row asks for a benchmark.
func key(name string) string {
	name = strings.TrimPrefix(name, "Benchmark")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		if _, err := strconv.Atoi(name[i+1:]); err == nil {
			name = name[:i]
		}
	}
	parts := strings.Split(name, "/")
	kept := parts[:0]
	for _, p := range parts {
		if !strings.HasPrefix(p, "round=") {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, "/")
}
