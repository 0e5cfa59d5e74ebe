package measure

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Load is a closed loop: each caller starts its next operation when the last one
// has ended.
type Load struct {
	Name    string // without "Benchmark"; parts are separated by slashes
	Callers int
	For     time.Duration
	Op      func(caller int) error
	CPU     func() time.Duration // of others who work for us; nil = nobody
}

// Sample is what a Load gave.
type Sample struct {
	Name     string
	Ops      int64
	Elapsed  time.Duration
	CPU      time.Duration // of this process and of Load.CPU
	Mallocs  uint64
	P50, P99 time.Duration
	More     []Extra
}

// Extra is one more figure of a line; the unit must not hold a space.
type Extra struct {
	Value float64
	Unit  string
}

// Run measures. The first error of any caller ends it, and is returned.
func Run(l Load) (Sample, error) {
	var (
		stop  atomic.Bool
		wg    sync.WaitGroup
		hists = make([]histogram, l.Callers)
		errs  = make([]error, l.Callers)
		gate  = make(chan struct{})
	)
	for i := range l.Callers {
		wg.Go(func() {
			<-gate
			for !stop.Load() {
				from := time.Now()
				if err := l.Op(i); err != nil {
					errs[i] = err
					stop.Store(true)
					return
				}
				hists[i].add(time.Since(from))
			}
		})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, from := l.cpu(), time.Now()
	close(gate)
	end := time.AfterFunc(l.For, func() { stop.Store(true) })
	wg.Wait()
	s := Sample{Name: l.Name, Elapsed: time.Since(from), CPU: l.cpu() - cpu}
	end.Stop()
	runtime.ReadMemStats(&after)
	s.Mallocs = after.Mallocs - before.Mallocs
	for _, err := range errs {
		if err != nil {
			return s, fmt.Errorf("%s: %w", l.Name, err)
		}
	}
	all := &hists[0]
	for i := range hists[1:] {
		all.merge(&hists[i+1])
	}
	s.Ops, s.P50, s.P99 = all.n, all.quantile(0.50), all.quantile(0.99)
	if s.Ops == 0 {
		return s, fmt.Errorf("%s: no operation ended", l.Name)
	}
	return s, nil
}

func (l *Load) cpu() time.Duration {
	d := ProcessCPU()
	if l.CPU != nil {
		d += l.CPU()
	}
	return d
}

// ProcessCPU is the CPU time that this process has used.
func ProcessCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no failure but a wrong argument
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Write writes the sample as a line of Go's benchmark format.
func (s *Sample) Write(w io.Writer) error {
	n := float64(s.Ops)
	extras := append([]Extra{
		{float64(s.Elapsed) / n, "ns/op"},
		{float64(s.CPU) / n, "cpu-ns/op"},
		{float64(s.Mallocs) / n, "allocs/op"},
		{float64(s.P50), "p50-ns"},
		{float64(s.P99), "p99-ns"},
	}, s.More...)
	return Line(w, s.Name, s.Ops, extras...)
}

// Line writes one line of Go's benchmark format.
func Line(w io.Writer, name string, ops int64, figures ...Extra) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Benchmark%s-%d\t%d", name, runtime.GOMAXPROCS(0), ops)
	for _, f := range figures {
		fmt.Fprintf(&b, "\t%.4g %s", f.Value, f.Unit)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}
