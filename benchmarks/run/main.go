package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	quick := flag.Bool("quick", false, "fewer rounds and sizes, under two minutes")
	rounds := flag.Int("rounds", 0, "rounds of each pair (0: 5, quick 3)")
	only := flag.String("only", "", "comma-separated names of tables")
	dir := flag.String("dir", "benchmarks", "folder of RESULTS.md and charts")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	chosen, err := choose(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	e := env{quick: *quick, rounds: *rounds}
	if e.rounds == 0 {
		e.rounds = 5
		if e.quick {
			e.rounds = 3
		}
	}
	whole, err := bench(ctx, e, chosen, *dir)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	case !whole:
		os.Exit(1)
	}
}

// choose returns the tables of these names; all when there is none.
func choose(names string) ([]table, error) {
	if names == "" {
		return tables, nil
	}
	var chosen []table
	for _, name := range strings.Split(names, ",") {
		i := slices.IndexFunc(tables, func(t table) bool { return t.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no table %q", name)
		}
		chosen = append(chosen, tables[i])
	}
	return chosen, nil
}

// bench measures and writes; whole is false when a row has no figure.
func bench(ctx context.Context, e env, chosen []table, dir string) (whole bool, err error) {
	began, load := time.Now(), loadAverage()
	if e.root, err = os.Getwd(); err != nil {
		return false, err
	}
	if _, err := os.Stat(filepath.Join(e.root, "go.mod")); err != nil {
		return false, errors.New("start it in the root of the repository")
	}
	if e.bin, err = os.MkdirTemp("", "signet-bench-"); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(e.bin)) }()
	log, err := os.Create(filepath.Join(os.TempDir(), "signet-bench.log"))
	if err != nil {
		return false, err
	}
	defer log.Close()

	all, failed := gather(ctx, e, chosen, log)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	whole = true
	var done []measured
	for _, t := range chosen {
		m := measured{table: t}
		for _, r := range t.rows {
			if r.full && e.quick || r.quick && !e.quick {
				continue
			}
			res := compare(r, all)
			if res.missing != "" {
				whole = false
				if why := failure(t, failed); why != "" {
					res.missing = why
				}
			}
			m.results = append(m.results, res)
		}
		m.write(os.Stdout)
		done = append(done, m)
	}
	return whole, save(dir, machine(began, e, time.Since(began), load), done)
}

// gather runs the sources of the tables, each once, and tells which failed.
func gather(ctx context.Context, e env, chosen []table, log io.Writer) (samples, map[string]error) {
	all, failed := samples{}, map[string]error{}
	var want []string
	for _, t := range chosen {
		for _, name := range t.from {
			if !slices.Contains(want, name) {
				want = append(want, name)
			}
		}
	}
	for _, name := range want {
		s, began := sources[name], time.Now()
		s.name = name
		err := s.prepare(ctx, e)
		built := time.Since(began)
		if err == nil {
			err = s.run(ctx, e, all, log)
		}
		fmt.Fprintf(os.Stderr, "%-10s %4.0f s, %.0f of them building\n", name, time.Since(began).Seconds(), built.Seconds())
		if err != nil {
			failed[name] = err
			fmt.Fprintln(os.Stderr, "run:", err)
		}
	}
	return all, failed
}

func (s *source) prepare(ctx context.Context, e env) error {
	for _, name := range s.needs {
		n := sources[name]
		n.name = name
		if err := n.build(ctx, e); err != nil {
			return err
		}
	}
	return s.build(ctx, e)
}

// failure is the first line of what went wrong with the sources of a table.
func failure(t table, failed map[string]error) string {
	for _, name := range t.from {
		if err := failed[name]; err != nil {
			line, _, _ := strings.Cut(err.Error(), "\n")
			return clip(strings.ReplaceAll(line, "|", "/"), 200)
		}
	}
	return ""
}
