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
	"github.com/signet-hsm/signet/hsm"
)

func main() {
	slice := flag.Duration("slice", 250*time.Millisecond, "how long each measurement runs")
	rounds := flag.Int("rounds", 5, "rounds")
	quick := flag.Bool("quick", false, "only P-256, HMAC and small tokens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *slice, *rounds, *quick); err != nil {
		fmt.Fprintln(os.Stderr, "hsm:", err)
		os.Exit(1)
	}
}

// bench is what a round goes through.
type bench struct {
	ctx   context.Context
	slice time.Duration
	rawc  string
	base  string
}

func run(ctx context.Context, slice time.Duration, rounds int, quick bool) (err error) {
	b := &bench{ctx: ctx, slice: slice, rawc: filepath.Join(os.Getenv("SIGNET_BENCH_BIN"), "rawc")}
	if b.base, err = os.MkdirTemp(memory(), "signet-bench-hsm-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.base)) }()
	if err := b.operations(rounds, quick); err != nil {
		return err
	}
	sizes := []int{10, 1000, 10000}
	if quick {
		sizes = sizes[:2]
	}
	for _, n := range sizes {
		if err := b.objects(n, min(rounds, 3)); err != nil {
			return fmt.Errorf("%d objects: %w", n, err)
		}
	}
	return nil
}

// memory is a tmpfs, where key pairs take a twelfth of the time.
func memory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// operations measures every kind of key, from 1, 8 and 64 callers.
func (b *bench) operations(rounds int, quick bool) error {
	t, err := newToken(b.ctx, b.base, "ops", nil)
	if err != nil {
		return err
	}
	one, err := t.copyModule()
	if err != nil {
		return err
	}
	two, err := t.copyModule()
	if err != nil {
		return err
	}
	ways, err := b.ways(t)
	if err != nil {
		return err
	}
	for round := range rounds {
		for _, k := range keys {
			if quick && k.op != "P-256" && k.op != "HMAC" {
				continue
			}
			if err := b.c(t, fmt.Sprintf("HSM/%s/round=%d/raw", k.op, round), k.op, 1, false, one); err != nil {
				return err
			}
			if err := b.c(t, fmt.Sprintf("HSM/%s/round=%d/ceiling", k.op, round), k.op, 2, true, one, two); err != nil {
				return err
			}
			for _, callers := range []int{1, 8, 64} {
				for _, w := range ways {
					if w.ops[k.op] == nil || w.most > 0 && callers > w.most || callers < w.least {
						continue
					}
					if err := b.one(fmt.Sprintf("HSM/%s/callers=%d/round=%d/%s", k.op, callers, round, w.name), callers, w.ops[k.op]); err != nil {
						return err
					}
				}
			}
		}
	}
	return closeAll(ways)
}

func (b *bench) ways(t *token) ([]*way, error) {
	ours, err := signet(b.ctx, t, "signet", nil)
	if err != nil {
		return nil, err
	}
	bare, err := miekg(t)
	if err != nil {
		return nil, err
	}
	peer, err := thales(t)
	if err != nil {
		return nil, err
	}
	alone, err := signet(b.ctx, t, "unguarded", func(c *hsm.Config) { c.Unguarded = true })
	if err != nil {
		return nil, err
	}
	alone.most = 1
	second, err := newToken(b.ctx, b.base, "tuned", tuned)
	if err != nil {
		return nil, err
	}
	fast, err := signet(b.ctx, second, "tuned", tuned)
	if err != nil {
		return nil, err
	}
	fast.least = 8
	return []*way{ours, alone, bare, peer, fast}, os.Setenv("SOFTHSM2_CONF", t.Conf)
}

// objects measures signing and looking up on a token with n objects.
func (b *bench) objects(n, rounds int) error {
	t, err := newToken(b.ctx, b.base, fmt.Sprintf("objects-%d", n), nil)
	if err != nil {
		return err
	}
	if err := t.fill(n); err != nil {
		return err
	}
	module, err := t.copyModule()
	if err != nil {
		return err
	}
	from := time.Now()
	ours, err := signet(b.ctx, t, "signet", nil)
	if err != nil {
		return err
	}
	if err := measure.Line(os.Stdout, fmt.Sprintf("HSM/objects=%d/open/signet", n), 1, measure.Extra{Value: float64(time.Since(from)), Unit: "ns/op"}); err != nil {
		return err
	}
	peer, err := thales(t)
	if err != nil {
		return err
	}
	for round := range rounds {
		if err := b.c(t, fmt.Sprintf("HSM/objects=%d/round=%d/raw", n, round), "P-256", 1, false, module); err != nil {
			return err
		}
		for _, w := range []*way{ours, peer} {
			if err := errors.Join(
				b.one(fmt.Sprintf("HSM/objects=%d/round=%d/%s", n, round, w.name), 1, w.ops["P-256"]),
				b.one(fmt.Sprintf("HSM/objects=%d/lookup/round=%d/%s", n, round, w.name), 1, w.ops["lookup"]),
			); err != nil {
				return err
			}
		}
	}
	return closeAll([]*way{ours, peer})
}

func closeAll(ways []*way) error {
	var all error
	for _, w := range ways {
		all = errors.Join(all, w.close())
	}
	return all
}

func (b *bench) one(name string, callers int, op func() error) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	if err := op(); err != nil { // warm
		return fmt.Errorf("%s: %w", name, err)
	}
	s, err := measure.Run(measure.Load{Name: name, Callers: callers, For: b.slice, Op: func(int) error { return op() }})
	if err != nil {
		return err
	}
	return s.Write(os.Stdout)
}

// c runs rawc, which prints its line itself.
func (b *bench) c(t *token, name, op string, threads int, copied bool, modules ...string) error {
	flag := "0"
	if copied {
		flag = "1"
	}
	cmd := exec.CommandContext(b.ctx, b.rawc, append([]string{
		name, op, t.Label, filepath.Join(t.Dir, "pin"), copyable(op),
		strconv.Itoa(threads), flag, strconv.FormatInt(b.slice.Milliseconds(), 10),
	}, modules...)...)
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+t.Conf)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
