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

func (resp Response) write(w http.ResponseWriter) {
	h := w.Header()
	for k, v := range resp.Header {
		h.Set(k, v)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	raw, ok := resp.Body.(Raw)
	if ok {
		h.Set("Content-Type", raw.ContentType)
		h.Set("Content-Length", strconv.Itoa(len(raw.Data)))
	}
	w.WriteHeader(resp.Status)
	if ok {
		_, _ = w.Write(raw.Data) // a client that is gone is no error of ours
	}
}

// observe makes the one log line of a request. It has nothing a client chose
// freely but ids that were checked; values and bodies never stand in it.
func (a *API) observe(ctx context.Context, rt Route, r *Request, status int, took time.Duration, err error) {
	a.metrics.requests.WithLabelValues(rt.ID, strconv.Itoa(status/100)+"xx").Inc()
	a.metrics.seconds.WithLabelValues(rt.ID).Observe(took.Seconds())
	attrs := []slog.Attr{
		slog.String("request_id", r.ID),
		slog.String("api", a.c.Dialect.Name),
		slog.String("route", rt.ID),
		slog.String("method", r.http.Method),
		slog.Int("status", status),
		slog.Float64("ms", float64(took.Microseconds())/1000),
	}
	if r.Principal.Name != "" {
		attrs = append(attrs, slog.String("tenant", r.Principal.Tenant.String()), slog.String("principal", r.Principal.Name))
	}
	level := slog.LevelInfo
	if err != nil {
		reason := "INTERNAL"
		if f := fault.Of(err); f != nil {
			reason = f.Reason
		}
		a.metrics.problems.WithLabelValues(reason).Inc()
		attrs = append(attrs, slog.String("reason", reason), slog.String("error", err.Error()))
		gone := errors.Is(r.http.Context().Err(), context.Canceled) // the client did not wait
		if status >= http.StatusInternalServerError && !gone {
			level = slog.LevelError
		}
	}
	a.c.Logger.LogAttrs(ctx, level, "request", attrs...)
}
