package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// checkWithin is the deadline of one check; an orchestrator's probe waits about
// as long.
const checkWithin = 2 * time.Second

// Check is one thing that has to work. Func must be safe for concurrent use.
type Check struct {
	Name string // "database"
	Func func(ctx context.Context) error
}

// Result is what a check found.
type Result struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"-"` // what is missing, for the log: causes name hosts and files
}

// Readiness asks the checks.
type Readiness struct {
	checks   []Check
	draining atomic.Bool
}

// NewReadiness takes the checks in the order in which they are told.
func NewReadiness(checks ...Check) (*Readiness, error) {
	for i, c := range checks {
		if c.Name == "" || c.Func == nil {
			return nil, fmt.Errorf("ops: check %d has no name or no function", i)
		}
	}
	return &Readiness{checks: checks}, nil
}

// Drain makes the process not ready, for good.
func (r *Readiness) Drain() { r.draining.Store(true) }

// Results asks all checks at once.
func (r *Readiness) Results(ctx context.Context) []Result {
	results := make([]Result, len(r.checks))
	var wg sync.WaitGroup
	for i, c := range r.checks {
		wg.Go(func() { results[i] = c.ask(ctx) })
	}
	wg.Wait()
	if r.draining.Load() {
		results = append(results, Result{Name: "process", Error: "is draining"})
	}
	return results
}

// Ready is nil when every check is good.
func (r *Readiness) Ready(ctx context.Context) error {
	var errs []error
	for _, res := range r.Results(ctx) {
		if !res.OK {
			errs = append(errs, fmt.Errorf("%s: %s", res.Name, res.Error))
		}
	}
	return errors.Join(errs...)
}

// ask gives up on a check that does not heed its context; the goroutine then
// ends when the check does.
func (c Check) ask(ctx context.Context) Result {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				done <- fmt.Errorf("panic: %v", v)
			}
		}()
		done <- c.Func(ctx)
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("no answer: %w", ctx.Err())
	}
	if err != nil {
		return Result{Name: c.Name, Error: err.Error()}
	}
	return Result{Name: c.Name, OK: true}
}

// Config makes an API. Readiness is needed; without Metrics there is no /metrics.
type Config struct {
	Readiness *Readiness
	Metrics   prometheus.Gatherer
	Logger    *slog.Logger // told why a check fails
}

// API is the three endpoints.
type API struct {
	c Config

	mu     sync.Mutex
	failed map[string]string // by check, why it failed when it was last asked
}

// New makes an API.
func New(c Config) (*API, error) {
	if c.Readiness == nil {
		return nil, errors.New("ops: readiness is missing")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &API{c: c, failed: map[string]string{}}, nil
}

// Mount registers GET /livez, /readyz and /metrics.
func (a *API) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, map[string]bool{"live": true})
	})
	mux.HandleFunc("GET /readyz", a.readyz)
	if a.c.Metrics != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(a.c.Metrics, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	}
}

func (a *API) readyz(w http.ResponseWriter, r *http.Request) {
	body := struct {
		Ready  bool     `json:"ready"`
		Checks []Result `json:"checks"`
	}{Ready: true, Checks: a.c.Readiness.Results(r.Context())}
	status := http.StatusOK
	for _, c := range body.Checks {
		a.tell(r.Context(), c)
		if !c.OK {
			body.Ready, status = false, http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "2")
		}
	}
	write(w, status, body)
}

// tell logs a check when its outcome has changed: probes come every few seconds.
func (a *API) tell(ctx context.Context, c Result) {
	a.mu.Lock()
	before, bad := a.failed[c.Name]
	if c.OK {
		delete(a.failed, c.Name)
	} else {
		a.failed[c.Name] = c.Error
	}
	a.mu.Unlock()
	switch {
	case !c.OK && (!bad || before != c.Error):
		a.c.Logger.WarnContext(ctx, "not ready", "check", c.Name, "error", c.Error)
	case c.OK && bad:
		a.c.Logger.InfoContext(ctx, "ready again", "check", c.Name)
	}
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.MarshalWrite(w, body) // a probe that is gone is no error of ours
}
