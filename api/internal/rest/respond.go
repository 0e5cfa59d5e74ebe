package rest

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/signet-hsm/signet/fault"
)

// with returns resp with one more header; the original's map may be shared.
func (resp Response) with(name, value string) Response {
	h := maps.Clone(resp.Header)
	if h == nil {
		h = map[string]string{}
	}
	h[name] = value
	resp.Header = h
	return resp
}

// encode turns the body into bytes before anything is written, so that a body
// that does not encode is still a proper 500.
func (resp *Response) encode() error {
	if _, done := resp.Body.(Raw); done || resp.Body == nil {
		return nil
	}
	b, err := json.Marshal(resp.Body, json.Deterministic(true))
	if err != nil {
		return err
	}
	resp.Body = Raw{ContentType: "application/json", Data: b}
	return nil
}

// The headers of every answer; net/http does not change them.
var (
	noStore = []string{"no-store"}
	noSniff = []string{"nosniff"}
	isJSONs = []string{"application/json"}
)

// selfSized is how long a body may be for net/http to state its length by itself.
const selfSized = 2000

func (resp Response) write(w http.ResponseWriter) {
	h := w.Header()
	for k, v := range resp.Header {
		h.Set(k, v)
	}
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	raw, ok := resp.Body.(Raw)
	if ok {
		if raw.ContentType == isJSONs[0] {
			h["Content-Type"] = isJSONs
		} else {
			h.Set("Content-Type", raw.ContentType)
		}
		if len(raw.Data) == 0 || len(raw.Data) > selfSized {
			h.Set("Content-Length", strconv.Itoa(len(raw.Data)))
		}
	}
	w.WriteHeader(resp.Status)
	if ok {
		_, _ = w.Write(raw.Data) // a client that is gone is no error of ours
	}
}

// observe makes the one log line of a request. It has nothing a client chose
// freely but ids that were checked; values and bodies never stand in it.
func (a *API) observe(ctx context.Context, m *routeMetrics, r *Request, status int, took time.Duration, err error) {
	m.class(status).Inc()
	m.took().Observe(took.Seconds())
	level, reason := slog.LevelInfo, ""
	if err != nil {
		reason = "INTERNAL"
		if f := fault.Of(err); f != nil {
			reason = f.Reason
		}
		a.metrics.problems.WithLabelValues(reason).Inc()
		gone := errors.Is(r.http.Context().Err(), context.Canceled) // the client did not wait
		if status >= http.StatusInternalServerError && !gone {
			level = slog.LevelError
		}
	}
	if !a.c.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", r.ID),
		slog.String("api", a.c.Dialect.Name),
		slog.String("route", m.id),
		slog.String("method", r.http.Method),
		slog.Int("status", status),
		slog.Float64("ms", float64(took.Microseconds())/1000),
	}
	if r.Principal.Name != "" {
		attrs = append(attrs, slog.String("tenant", r.Principal.Tenant.String()), slog.String("principal", r.Principal.Name))
	}
	if err != nil {
		attrs = append(attrs, slog.String("reason", reason), slog.String("error", err.Error()))
	}
	a.c.Logger.LogAttrs(ctx, level, "request", attrs...)
}
