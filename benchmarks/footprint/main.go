package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/signet-hsm/signet/benchmarks/measure"
	"github.com/signet-hsm/signet/benchmarks/site"
)

// settle is how long a node is left alone before its memory is read.
const settle = 2 * time.Second

func main() {
	rounds := flag.Int("rounds", 5, "starts")
	flag.Bool("quick", false, "no difference here")
	flag.Duration("slice", 0, "no difference here")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "footprint:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds int) (err error) {
	dir, err := os.MkdirTemp("", "signet-bench-footprint-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := site.New(ctx, dir, filepath.Join(os.Getenv("SIGNET_BENCH_BIN"), "signet"), "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for range rounds {
		n, err := s.Serve(ctx)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settle):
		}
		rss, err := n.RSS()
		if err != nil {
			return err
		}
		if err := measure.Line(os.Stdout, "Footprint/start", 1,
			measure.Extra{Value: float64(n.Ready), Unit: "ns/op"}, measure.Extra{Value: float64(rss), Unit: "bytes"}); err != nil {
			return err
		}
		if err := n.Stop(); err != nil {
			return err
		}
	}
	return nil
}
