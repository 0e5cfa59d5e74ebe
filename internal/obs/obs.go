package obs

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Log says how to log. The zero value is JSON at level info.
type Log struct {
	Level  string // debug, info, warn, error; empty = info
	Format string // json, text; empty = json
}

// Validate reports an unknown level or format.
func (l Log) Validate() error {
	_, err := l.options()
	return err
}

func (l Log) options() (*slog.HandlerOptions, error) {
	var level slog.Level
	if l.Level != "" {
		if err := level.UnmarshalText([]byte(l.Level)); err != nil {
			return nil, fmt.Errorf("log.level %q: use debug, info, warn or error", l.Level)
		}
	}
	switch l.Format {
	case "", "json", "text":
	default:
		return nil, fmt.Errorf("log.format %q: use json or text", l.Format)
	}
	return &slog.HandlerOptions{Level: level}, nil
}

// NewLogger makes the logger. Both handlers escape control characters, so one
// event is one line whatever a client sent.
func NewLogger(w io.Writer, l Log) (*slog.Logger, error) {
	o, err := l.options()
	if err != nil {
		return nil, err
	}
	if l.Format == "text" {
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return slog.New(slog.NewJSONHandler(w, o)), nil
}

// NewRegistry makes a registry with the Go and process collectors and
// signet_build_info.
func NewRegistry(version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "signet_build_info",
		Help:        "Constant 1, labelled with the version and the Go release.",
		ConstLabels: prometheus.Labels{"version": version, "go": runtime.Version()},
	})
	info.Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info)
	return r
}
