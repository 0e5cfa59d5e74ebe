package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	longest = time.Minute // that is told apart
	digits  = 3
)

// Errors that a call's error may wrap.
var (
	// ErrWrong: it was answered, and wrongly.
	ErrWrong = errors.New("wrong answer")
	// ErrRefused: the server said that it can not now.
	ErrRefused = errors.New("refused")
)

// Call is one prepared call of a kind. Only Do is timed.
type Call struct {
	Kind string
	Do   func(ctx context.Context) error
}

// Caller prepares its next call. One caller is never used twice at once.
type Caller func(ctx context.Context) (Call, error)

// Plan is what a Run does. Callers, and one of Duration and Count, are needed.
type Plan struct {
	Callers  []Caller
	Duration time.Duration // 0: until Count or the end of the context
	Count    int64         // calls; 0: until Duration
	Rate     float64       // calls a second over all callers; 0: a closed loop
	Timeout  time.Duration // of one call
	Every    time.Duration // between two reports; 0: none
	Report   func(Progress)
}

// Progress is what happened since the last report, and all in all.
type Progress struct {
	Elapsed                time.Duration
	Rate                   float64 // calls answered well a second, since the last report
	P50, P90, P99          time.Duration
	Done                   int64 // all in all
	Wrong, Refused, Failed int64
}

// Run makes the plan's calls. It returns when all are answered; ctx ends it early,
// which is no error.
func Run(ctx context.Context, p Plan) (Summary, error) {
	switch {
	case len(p.Callers) == 0:
		return Summary{}, errors.New("load: no callers")
	case p.Duration <= 0 && p.Count <= 0:
		return Summary{}, errors.New("load: neither a duration nor a count")
	case p.Rate < 0 || p.Timeout <= 0:
		return Summary{}, errors.New("load: a negative rate, or no time for a call")
	}
	r := &run{Plan: p, kinds: map[string]*kind{}, texts: map[string]int64{}, recent: newHistogram(), began: time.Now()}
	running := ctx
	if p.Duration > 0 {
		limited, cancel := context.WithDeadline(ctx, r.began.Add(p.Duration))
		defer cancel()
		running = limited
	}
	stopReports := r.report()
	var due chan time.Time // nil in a closed loop
	var workers sync.WaitGroup
	if p.Rate > 0 {
		due = make(chan time.Time)
		workers.Go(func() { r.schedule(running, due) })
	}
	for _, c := range p.Callers {
		workers.Go(func() { r.work(ctx, running, c, due) })
	}
	workers.Wait()
	stopReports()
	return r.summary(), nil
}

type run struct {
	Plan
	began  time.Time
	issued atomic.Int64

	mu     sync.Mutex
	kinds  map[string]*kind
	texts  map[string]int64        // how often each error was met
	recent *hdrhistogram.Histogram // since the last report
	good   int64                   // since the last report
}

type kind struct {
	times                      *hdrhistogram.Histogram
	ok, wrong, refused, failed int64
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, longest.Microseconds(), digits)
}

// schedule says when calls are due. When all callers are busy it falls behind, and
// the calls it then hands out were due in the past.
func (r *run) schedule(running context.Context, due chan<- time.Time) {
	defer close(due)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := int64(0); r.Count == 0 || i < r.Count; i++ {
		at := r.began.Add(time.Duration(float64(i) / r.Rate * float64(time.Second)))
		if wait := time.Until(at); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-running.Done():
				return
			}
		}
		select {
		case due <- at:
		case <-running.Done():
			return
		}
	}
}

// work makes one caller's calls.
func (r *run) work(ctx, running context.Context, next Caller, due <-chan time.Time) {
	for running.Err() == nil {
		if due == nil && r.Count > 0 && r.issued.Add(1) > r.Count {
			return
		}
		// Preparing may ask the server as well, and be given up.
		call, err := next(running)
		if err != nil {
			if running.Err() == nil {
				r.record("prepare", 0, err)
				if ctx.Err() == nil && due == nil {
					pause(running)
				}
			}
			if due == nil {
				continue
			}
		}
		at := time.Now()
		if due != nil {
			var more bool
			select {
			case at, more = <-due:
				if !more {
					return
				}
			case <-running.Done():
				return
			}
			if err != nil {
				continue // its turn is lost, and counted as failed
			}
		}
		// A call that began is finished, or its outcome would be unknown.
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.Timeout)
		err = call.Do(one)
		cancel()
		r.record(call.Kind, time.Since(at), err)
	}
}

// pause keeps a caller that can not prepare from doing nothing else.
func pause(ctx context.Context) {
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
	}
}

func (r *run) record(name string, took time.Duration, err error) {
	us := min(max(took.Microseconds(), 1), longest.Microseconds())
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kinds[name]
	if k == nil {
		k = &kind{times: newHistogram()}
		r.kinds[name] = k
	}
	switch {
	case err == nil:
		k.ok++
		r.good++
		_ = k.times.RecordValue(us) // within its bounds
		_ = r.recent.RecordValue(us)
		return
	case errors.Is(err, ErrWrong):
		k.wrong++
	case errors.Is(err, ErrRefused):
		k.refused++
	default:
		k.failed++
	}
	const most = 20 // different texts
	text := fmt.Sprintf("%s: %s", name, err)
	if _, known := r.texts[text]; !known && len(r.texts) >= most {
		text = "others"
	}
	r.texts[text]++
}

// report calls Report again and again until the function it returns is called.
func (r *run) report() (stop func()) {
	if r.Report == nil || r.Every <= 0 {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(r.Every)
		defer tick.Stop()
		for last := r.began; ; {
			select {
			case <-end:
				return
			case now := <-tick.C:
				r.Report(r.progress(now.Sub(last)))
				last = now
			}
		}
	}()
	return func() { close(end); <-ended }
}

func (r *run) progress(since time.Duration) Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := Progress{
		Elapsed: time.Since(r.began), Rate: float64(r.good) / since.Seconds(),
		P50: quantile(r.recent, 50), P90: quantile(r.recent, 90), P99: quantile(r.recent, 99),
	}
	for _, k := range r.kinds {
		p.Done += k.ok
		p.Wrong, p.Refused, p.Failed = p.Wrong+k.wrong, p.Refused+k.refused, p.Failed+k.failed
	}
	r.good = 0
	r.recent.Reset()
	return p
}

func quantile(h *hdrhistogram.Histogram, q float64) time.Duration {
	return time.Duration(h.ValueAtQuantile(q)) * time.Microsecond
}
