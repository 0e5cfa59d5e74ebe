package main

import (
	"bytes"
	"context"
	"encoding/json"
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
	"github.com/signet-hsm/signet/benchmarks/site"
	"github.com/signet-hsm/signet/internal/load"
)

const (
	callers = 256 // of the peak
	asking  = 3 * callers
	times   = 3 // the peak
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds")
	slice := flag.Duration("slice", 4*time.Second, "length of each half of a round")
	flag.Bool("quick", false, "no difference here")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rounds, *slice); err != nil {
		fmt.Fprintln(os.Stderr, "overload:", err)
		os.Exit(1)
	}
}

type bench struct {
	ctx     context.Context
	program string
	s       *site.Site
	n       *site.Node
}

func run(ctx context.Context, rounds int, slice time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "signet-bench-overload-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{ctx: ctx, program: filepath.Join(os.Getenv("SIGNET_BENCH_BIN"), "signet")}
	if b.s, err = site.New(ctx, dir, b.program, ""); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.s.Close()) }()
	if err := b.turns("Overload", rounds, slice); err != nil {
		return err
	}
	if err := b.s.Configure(fmt.Sprintf("ops: 127.0.0.1:0, concurrency: {per_credential: %d}", callers), "ops: 127.0.0.1:0"); err != nil {
		return err
	}
	return b.turns("Overload/refusing", rounds, slice)
}

// turns starts a node and measures it.
func (b *bench) turns(name string, rounds int, slice time.Duration) (err error) {
	if b.n, err = b.s.Serve(b.ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.n.Stop()) }()
	if _, err := b.load(slice/2, asking, 0); err != nil { // makes the phones, warms everything
		return err
	}
	for range rounds {
		peak, err := b.load(slice, callers, 0)
		if err != nil {
			return err
		}
		if err := line(name+"/peak", peak); err != nil {
			return err
		}
		over, err := b.load(slice, asking, times*peak.Rate)
		if err != nil {
			return err
		}
		if err := line(name+"/asked", over); err != nil {
			return err
		}
	}
	return nil
}

func line(name string, s load.Summary) error {
	return measure.Line(os.Stdout, name, s.OK,
		measure.Extra{Value: 1e9 / s.Rate, Unit: "ns/op"},
		measure.Extra{Value: s.Kinds["verify"].Times.P99 * 1e6, Unit: "p99-ns"},
		measure.Extra{Value: float64(s.Refused) / float64(s.OK+s.Refused), Unit: "refused"})
}

// load runs `signet load` with the phones that are there.
func (b *bench) load(length time.Duration, callers int, rate float64) (load.Summary, error) {
	var s load.Summary
	args := []string{
		"load", "--env", filepath.Join(b.s.Dir, "env"), "--devices-dir", filepath.Join(b.s.Dir, "phones"), "--devices", strconv.Itoa(asking),
		"--concurrency", strconv.Itoa(callers), "--duration", length.String(), "--json", "-", "--ca", filepath.Join(b.s.Dir, "tls.pem"),
	}
	if rate > 0 {
		args = append(args, "--rate", strconv.FormatFloat(rate, 'f', 0, 64))
	}
	cmd := exec.CommandContext(b.ctx, b.program, args...)
	cmd.Env = append(os.Environ(), "SIGNET_REST=https://"+b.n.REST, "SIGNET_GRPC="+b.n.GRPC)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return s, fmt.Errorf("signet load: %w: %s", err, said.Bytes())
	}
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		return s, err
	}
	if s.Wrong > 0 || s.Failed > 0 || s.OK == 0 {
		return s, fmt.Errorf("signet load: %d good, %d wrong, %d failed: %v", s.OK, s.Wrong, s.Failed, s.Errors)
	}
	return s, nil
}
