package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/reqid"
	"github.com/signet-hsm/signet/fault"
)

// Dialect is what differs between the REST interfaces.
type Dialect struct {
	Name string // metric label and log attribute, "ast"
	// Authenticate finds the caller. Errors: access.ErrUnauthenticated or an outage.
	Authenticate func(ctx context.Context, r *http.Request) (access.Principal, error)
	// Problem is the dialect's one table and writer: it maps any error. id is the
	// request's.
	Problem func(err error, id string) Response
}

// Config makes an API.
type Config struct {
	Dialect Dialect
	Routes  []Route
	// Prefixes are the paths below which unknown URLs get this dialect's 404,
	// without trailing slash; "" stands for everything that no other handler of the
	// mux takes.
	Prefixes []string
	Timeout  time.Duration // of one request; 0: 10 s
	// Proxies are the addresses whose X-Forwarded-For is believed; of everybody
	// else it is the address of the connection that counts.
	Proxies []netip.Prefix
	// Limiter bounds the calls at work of each credential; nil: no bound.
	Limiter *access.Limiter
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// API serves the routes of one dialect.
type API struct {
	c       Config
	paths   map[string]map[string]Route // pattern, method
	metrics *metrics
}

// New checks the whole table before anything is served.
func New(c Config) (*API, error) {
	if c.Dialect.Name == "" || c.Dialect.Authenticate == nil || c.Dialect.Problem == nil {
		return nil, errors.New("rest: dialect is incomplete")
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{c: c, paths: map[string]map[string]Route{}}
	ids := map[string]bool{}
	for _, r := range c.Routes {
		if err := r.validate(); err != nil {
			return nil, fmt.Errorf("rest: %w", err)
		}
		if ids[r.ID] {
			return nil, fmt.Errorf("rest: id %s is used twice", r.ID)
		}
		ids[r.ID] = true
		if a.paths[r.Pattern] == nil {
			a.paths[r.Pattern] = map[string]Route{}
		}
		if _, twice := a.paths[r.Pattern][r.Method]; twice {
			return nil, fmt.Errorf("rest: %s %s is declared twice", r.Method, r.Pattern)
		}
		for _, name := range tenantWildcards {
			r.tenanted = r.tenanted || strings.Contains(r.Pattern, "{"+name+"}")
		}
		a.paths[r.Pattern][r.Method] = r
	}
	var err error
	a.metrics, err = newMetrics(c.Metrics, c.Dialect.Name)
	return a, err
}

// Routes returns the table, for tests that compare it with a contract.
func (a *API) Routes() []Route { return slices.Clone(a.c.Routes) }

// Mount registers the API. Like ServeMux.Handle it panics when a pattern is taken.
func (a *API) Mount(mux *http.ServeMux) {
	for pattern, byMethod := range a.paths {
		mux.Handle(pattern, a.dispatch(byMethod))
	}
	unknown := a.always(Route{ID: "unknown", Allow: access.Any(access.Public), Handler: failWith(ErrURL)}, nil)
	for _, p := range a.c.Prefixes {
		mux.Handle(p+"/", unknown)
		if _, routed := a.paths[p]; p != "" && !routed {
			mux.Handle(p, unknown) // else the mux would answer with a redirect of its own
		}
	}
}

// dispatch chooses by method; the mux's own 405 would not speak the dialect.
func (a *API) dispatch(byMethod map[string]Route) http.Handler {
	var allow []string
	handlers := map[string]http.Handler{}
	for m, r := range byMethod {
		handlers[m] = a.always(r, nil)
		allow = append(allow, m)
		if m == http.MethodGet {
			handlers[http.MethodHead] = handlers[m]
			allow = append(allow, http.MethodHead)
		}
	}
	slices.Sort(allow)
	refused := a.always(
		Route{ID: "unknown", Allow: access.Any(access.Public), Handler: failWith(ErrMethod)},
		map[string]string{"Allow": strings.Join(allow, ", ")})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h, ok := handlers[r.Method]; ok {
			h.ServeHTTP(w, r)
			return
		}
		refused.ServeHTTP(w, r)
	})
}

func failWith(err error) Handler {
	return func(context.Context, *Request) (Response, error) { return Response{}, err }
}

// working is the context of a request's work: it carries the id in a field, so that
// a request costs one object for it.
type working struct {
	context.Context //nolint:containedctx // it is one
	id              string
}

func (w *working) Value(key any) any {
	if reqid.IsKey(key) {
		return w.id
	}
	return w.Context.Value(key)
}

// always is the path every request takes.
func (a *API) always(rt Route, header map[string]string) http.Handler {
	m := a.metrics.of(rt.ID)
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		started := time.Now()
		r := &Request{ID: reqid.Pick(first(hr.Header[reqid.Header])), http: hr, proxies: a.c.Proxies}
		limited, cancel := context.WithTimeout(hr.Context(), a.c.Timeout)
		defer cancel()
		ctx := &working{limited, r.ID}
		a.metrics.inFlight.Inc()
		defer a.metrics.inFlight.Dec()

		resp, err := a.run(ctx, w, r, rt)
		r.pass.Leave()
		if err == nil {
			err = resp.encode()
		}
		err = outage(err)
		if err != nil {
			resp = a.problem(err, r.ID)
		}
		h := w.Header()
		for k, v := range header {
			h.Set(k, v)
		}
		h[reqid.Header] = []string{r.ID}
		resp.write(w)
		a.observe(ctx, m, r, resp.Status, time.Since(started), err)
	})
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// run turns a panic into an error: the answer is a 500 in the dialect's shape.
func (a *API) run(ctx context.Context, w http.ResponseWriter, r *Request, rt Route) (resp Response, err error) {
	defer func() {
		if v := recover(); v != nil {
			a.metrics.panics.Inc()
			a.c.Logger.ErrorContext(ctx, "panic", "request_id", r.ID, "route", rt.ID, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			resp, err = Response{}, errors.New("panic in handler")
		}
	}()
	if err := a.limit(w, r, rt); err != nil {
		return Response{}, err
	}
	if err := a.guard(ctx, r, rt); err != nil {
		return Response{}, err
	}
	if !storable(r.http.URL.Path) {
		return Response{}, violation("path", hintText)
	}
	if err := r.read(); err != nil {
		return Response{}, err
	}
	return rt.Handler(ctx, r)
}

// limit refuses by header what is too large, and bounds what will be read.
func (a *API) limit(w http.ResponseWriter, r *Request, rt Route) error {
	bound := rt.MaxBody
	if bound == 0 {
		bound = defaultBody
	}
	if r.http.ContentLength > bound {
		w.Header().Set("Connection", "close") // do not read on only to throw it away
		return ErrTooLarge
	}
	if r.http.ContentLength < 0 { // else no more than that will be read
		r.http.Body = http.MaxBytesReader(w, r.http.Body, bound)
	}
	return nil
}

// guard authenticates and authorises.
func (a *API) guard(ctx context.Context, r *Request, rt Route) error {
	if rt.Allow.Has(access.Public) {
		return nil
	}
	p, err := a.c.Dialect.Authenticate(ctx, r.http)
	if err != nil {
		return err
	}
	r.Principal = p
	if !p.Privileges.Meets(rt.Allow) {
		return fmt.Errorf("%w: needs %s", access.ErrForbidden, rt.Allow)
	}
	if rt.tenanted {
		if err := ofTenant(r, p); err != nil {
			return err
		}
	}
	r.pass, err = a.c.Limiter.Enter(&r.Principal, 1)
	return err
}

func ofTenant(r *Request, p access.Principal) error {
	for _, name := range tenantWildcards {
		if t := r.http.PathValue(name); t != "" && t != p.Tenant.String() {
			return fmt.Errorf("%w: of another tenant than the path's", access.ErrForbidden)
		}
	}
	return nil
}

func (a *API) problem(err error, id string) Response {
	resp := a.c.Dialect.Problem(err, id)
	if k := fault.KindOf(err); k == fault.Unavailable || k == fault.Exhausted {
		resp = resp.with("Retry-After", retryAfter)
	}
	if encoding := resp.encode(); encoding != nil {
		return Response{Status: http.StatusInternalServerError}
	}
	return resp
}

// outage makes an expired or cancelled context, which no domain has named, what it
// is for the caller: no verdict.
func outage(err error) error {
	if err == nil {
		return nil
	}
	if fault.Of(err) == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		return fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
	}
	return err
}
