package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"

	"github.com/signet-hsm/signet/benchmarks/measure"
)

func main() {
	slice := flag.Duration("slice", time.Second, "how long each measurement runs")
	rounds := flag.Int("rounds", 5, "rounds")
	quick := flag.Bool("quick", false, "eight callers only")
	part := flag.String("part", "all", "all, process or https")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{ctx: ctx, slice: *slice, rounds: *rounds, quick: *quick, bin: os.Getenv("SIGNET_BENCH_BIN")}
	if err := b.run(*part); err != nil {
		fmt.Fprintln(os.Stderr, "issue:", err)
		os.Exit(1)
	}
}

type bench struct {
	ctx    context.Context
	slice  time.Duration
	rounds int
	quick  bool
	bin    string
	disk   string // a scratch folder on disk
	memory string // and one in memory, where there is a tmpfs
}

func (b *bench) run(part string) (err error) {
	if b.disk, err = os.MkdirTemp("", "signet-bench-issue-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.disk)) }()
	base := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		base = "/dev/shm"
	}
	if b.memory, err = os.MkdirTemp(base, "signet-bench-issue-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.memory)) }()
	if part != "https" {
		if err := b.process(); err != nil {
			return fmt.Errorf("in process: %w", err)
		}
	}
	if part == "process" {
		return nil
	}
	if err := b.https(); err != nil {
		return fmt.Errorf("over HTTPS: %w", err)
	}
	return nil
}

// one measures and prints.
func (b *bench) one(name string, callers int, cpu func() time.Duration, op func(caller int) error) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	s, err := measure.Run(measure.Load{Name: name, Callers: callers, For: b.slice, Op: op, CPU: cpu})
	if err != nil {
		return err
	}
	return s.Write(os.Stdout)
}

// warm is one without a line: connections are made, statements planned.
func (b *bench) warm(op func(caller int) error) error {
	_, err := measure.Run(measure.Load{Name: "warm", Callers: 8, For: b.slice / 2, Op: op})
	return err
}

// rawc runs the C loop with two threads and prints its line.
func (b *bench) rawc(w *world, name, key string, copied int, modules ...string) error {
	cmd := exec.CommandContext(b.ctx, filepath.Join(b.bin, "rawc"), append([]string{
		name, "P-256", w.st.Label, filepath.Join(w.st.Dir, "pin"), key, "2", strconv.Itoa(copied), strconv.FormatInt(b.slice.Milliseconds(), 10),
	}, modules...)...)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+w.st.Conf)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
