package apitest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Way is one way to serve a call: where it listens and what is asked there.
type Way struct {
	Name string
	Addr string
	Kind string // of call: the driver's own word
}

// Duel measures ways to serve one call against each other: a driver process of its
// own calls one after the other, for a moment each, round after round, so that
// whatever else the machine does meets all alike.
type Duel struct {
	Ways    []Way // the first is what the others are measured by
	Callers int
	Setup   any // what the driver needs besides, as JSON
}

// Caller makes one call and says what was wrong with its answer.
type Caller func() error

// driverVariable makes a test binary the driver of a Duel.
const driverVariable = "SIGNET_DUEL_DRIVER"

// linesVariable has Run print a line for each round and way, in Go's benchmark
// format; benchmarks/run sets it.
const linesVariable = "SIGNET_BENCH_ROUNDS"

// round is what the driver is told to do, and outcome what came of it.
type (
	start struct {
		Ways    []Way
		Callers int
		Setup   json.RawMessage
	}
	round struct {
		Way string
		For time.Duration
	}
	outcome struct {
		Done  int64
		Wrong string // the first wrong answer
		P50   time.Duration
		P99   time.Duration
		Took  time.Duration
	}
)

// Drive is called first in TestMain: in a driver process it does the driver's work
// and reports true. open makes the callers of one way.
func Drive(open func(w Way, callers int, setup json.RawMessage) ([]Caller, error)) bool {
	if os.Getenv(driverVariable) == "" {
		return false
	}
	if err := drive(open); err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(1)
	}
	return true
}

func drive(open func(Way, int, json.RawMessage) ([]Caller, error)) error {
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	var s start
	if err := in.Decode(&s); err != nil {
		return err
	}
	ways := map[string][]Caller{}
	for _, w := range s.Ways {
		callers, err := open(w, s.Callers, s.Setup)
		if err != nil {
			return err
		}
		ways[w.Name] = callers
	}
	for {
		var r round
		if err := in.Decode(&r); err != nil {
			return nil //nolint:nilerr // the end of the input is the end of the work
		}
		if err := out.Encode(loop(ways[r.Way], r.For)); err != nil {
			return err
		}
	}
}

// loop lets each caller call again and again.
func loop(callers []Caller, length time.Duration) outcome {
	var (
		o     outcome
		done  atomic.Int64
		mu    sync.Mutex
		times []time.Duration
		wg    sync.WaitGroup
	)
	began := time.Now()
	end := began.Add(length)
	for _, call := range callers {
		wg.Go(func() {
			var own []time.Duration
			for at := time.Now(); at.Before(end); {
				err := call()
				now := time.Now()
				if err != nil {
					mu.Lock()
					if o.Wrong == "" {
						o.Wrong = err.Error()
					}
					mu.Unlock()
					return
				}
				done.Add(1)
				own = append(own, now.Sub(at))
				at = now
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, own...)
		})
	}
	wg.Wait()
	o.Took, o.Done = time.Since(began), done.Load()
	slices.Sort(times)
	if n := len(times); n > 0 {
		o.P50, o.P99 = times[n/2], times[n*99/100]
	}
	return o
}

// Run reports, for each way: calls a second, the CPU time that this process (the
// server) spent on one, and for all but the first way the ratio of both to the first
// one's in the same round. All are medians over the rounds.
func (d Duel) Run(b *testing.B) {
	b.Helper()
	rounds, length := 7, 700*time.Millisecond
	if testing.Short() {
		rounds, length = 3, 300*time.Millisecond
	}
	exe, err := os.Executable()
	require.NoError(b, err)
	cmd := exec.CommandContext(b.Context(), exe)
	cmd.Env = append(os.Environ(), driverVariable+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(b, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	to, from := json.NewEncoder(stdin), json.NewDecoder(stdout)
	setup, err := json.Marshal(d.Setup)
	require.NoError(b, err)
	require.NoError(b, to.Encode(start{d.Ways, d.Callers, setup}))

	play := func(w Way, length time.Duration) (rate, cpu float64, o outcome) {
		before := processTime()
		require.NoError(b, to.Encode(round{w.Name, length}))
		require.NoError(b, from.Decode(&o))
		require.Empty(b, o.Wrong, w.Name)
		require.NotZero(b, o.Done, w.Name)
		return float64(o.Done) / o.Took.Seconds(), float64((processTime() - before).Nanoseconds()) / 1000 / float64(o.Done), o
	}
	for b.Loop() {
		rate, cpu := map[string][]float64{}, map[string][]float64{}
		rateRatio, cpuRatio := map[string][]float64{}, map[string][]float64{}
		p50, p99 := map[string][]float64{}, map[string][]float64{}
		for i := range rounds + 1 {
			var firstRate, firstCPU float64
			for j, w := range d.Ways {
				r, c, o := play(w, length)
				if j == 0 {
					firstRate, firstCPU = r, c
				}
				if i == 0 { // warms up
					continue
				}
				rate[w.Name], cpu[w.Name] = append(rate[w.Name], r), append(cpu[w.Name], c)
				rateRatio[w.Name], cpuRatio[w.Name] = append(rateRatio[w.Name], r/firstRate), append(cpuRatio[w.Name], c/firstCPU)
				if os.Getenv(linesVariable) != "" {
					fmt.Printf("\n%s/round=%d/%s-%d\t%d\t%.5g ns/op\t%.5g cpu-ns/op\t%d p50-ns\t%d p99-ns\n",
						b.Name(), i, w.Name, runtime.GOMAXPROCS(0), o.Done, 1e9/r, c*1e3, o.P50, o.P99)
				}
				p50[w.Name], p99[w.Name] = append(p50[w.Name], o.P50.Seconds()*1000), append(p99[w.Name], o.P99.Seconds()*1000)
			}
		}
		for j, w := range d.Ways {
			b.ReportMetric(median(rate[w.Name]), w.Name+"-req/s")
			b.ReportMetric(median(cpu[w.Name]), w.Name+"-cpu-us/op")
			b.ReportMetric(median(p50[w.Name]), w.Name+"-p50-ms")
			b.ReportMetric(median(p99[w.Name]), w.Name+"-p99-ms")
			if j > 0 {
				b.ReportMetric(median(rateRatio[w.Name]), w.Name+"-ratio")
				b.ReportMetric(median(cpuRatio[w.Name]), w.Name+"-cpu-ratio")
			}
		}
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func processTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // fails for a bad argument only
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
