package ops

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Paths are what the handler serves; all by GET.
var Paths = []string{"/livez", "/readyz", "/metrics"}

// checkTimeout bounds one /readyz: a probe that takes longer is a failed one.
const checkTimeout = 3 * time.Second

// Check is one thing that a node needs.
type Check struct {
	Name string
	Run  func(context.Context) error // nil: there and well
}

// Config makes a handler.
type Config struct {
	Registry *prometheus.Registry
	Checks   []Check
}

// New makes the handler. A name must be there and there once.
func New(c Config) (http.Handler, error) {
	seen := map[string]bool{}
	for _, check := range c.Checks {
		if check.Name == "" || check.Run == nil || seen[check.Name] {
			return nil, errors.New("ops: a check needs a name of its own and something to run: " + check.Name)
		}
		seen[check.Name] = true
	}
	if c.Registry == nil {
		return nil, errors.New("ops: Registry is needed")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, Report{Status: "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		rep := Run(r.Context(), c.Checks)
		status := http.StatusOK
		if rep.Status != "ok" {
			status = http.StatusServiceUnavailable
		}
		write(w, status, rep)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.Registry, promhttp.HandlerOpts{Registry: c.Registry}))
	return mux, nil
}

// Report is the body of /livez and /readyz.
type Report struct {
	Status string            `json:"status"`           // "ok" or "unavailable"
	Checks map[string]string `json:"checks,omitempty"` // "ok", or what is missing
}

// Run runs the checks and reports them by name.
func Run(ctx context.Context, checks []Check) Report {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	rep := Report{Status: "ok", Checks: make(map[string]string, len(checks))}
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for _, check := range checks {
		wg.Go(func() {
			said := "ok"
			if err := check.Run(ctx); err != nil {
				said = err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			rep.Checks[check.Name] = said
			if said != "ok" {
				rep.Status = "unavailable"
			}
		})
	}
	wg.Wait()
	return rep
}

func write(w http.ResponseWriter, status int, rep Report) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(rep) // the client is gone: nothing to do
}
