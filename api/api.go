package api

import (
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"
)

// Limits of the server. A request's own deadline and body limit are its route's.
const (
	headerTimeout = 5 * time.Second  // until the header is complete
	readTimeout   = 15 * time.Second // until the body is complete
	writeTimeout  = 30 * time.Second // until the answer is written
	idleTimeout   = 2 * time.Minute  // of a kept connection
	maxHeader     = 16 << 10         // bytes
	maxStreams    = 250              // HTTP/2 requests at once on one connection
	probeAfter    = time.Minute      // of silence on an HTTP/2 connection: is the client still there?
	probeWithin   = 20 * time.Second // then it must answer
)

// Part is a set of routes.
type Part interface{ Mount(mux *http.ServeMux) }

// Handler joins the parts on one mux; it panics when two claim one pattern.
//
// A path that the mux would clean ("//", "/./", "..") is not redirected but
// unknown: one object has one URL, and checks in front of signet can rely on it.
func Handler(parts ...Part) http.Handler {
	mux := http.NewServeMux()
	for _, p := range parts {
		p.Mount(mux)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if clean(r.URL.Path) {
			mux.ServeHTTP(w, r)
			return
		}
		unknown := r.Clone(r.Context())
		unknown.URL.Path, unknown.URL.RawPath = "/", ""
		mux.ServeHTTP(w, unknown)
	})
}

func clean(p string) bool {
	return p == "*" || p == "/" || strings.HasPrefix(p, "/") && path.Clean(p) == strings.TrimSuffix(p, "/")
}

// ServerConfig makes a server. Handler is needed.
type ServerConfig struct {
	Handler http.Handler
	TLS     *tls.Config // nil: plain HTTP, for development or behind a proxy on this host
	// H2C takes HTTP/2 without TLS as well, from clients that begin with it ("prior
	// knowledge"; there is no upgrade). For a proxy on this host only; not with TLS,
	// where HTTP/2 is agreed in the handshake.
	H2C    bool
	Logger *slog.Logger
}

// NewServer returns a server with all limits set; the caller listens and serves.
func NewServer(c ServerConfig) (*http.Server, error) {
	if c.Handler == nil {
		return nil, errors.New("api: no handler")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.H2C && c.TLS != nil {
		return nil, errors.New("api: h2c is without TLS")
	}
	s := &http.Server{
		Handler:           c.Handler,
		TLSConfig:         c.TLS,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			SendPingTimeout:      probeAfter, PingTimeout: probeWithin, WriteByteTimeout: writeTimeout,
		},
		ErrorLog: errorLog(c.Logger),
	}
	if c.H2C {
		s.Protocols = new(http.Protocols)
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetUnencryptedHTTP2(true)
	}
	return s, nil
}

// errorLog takes what net/http has to say about bad connections.
func errorLog(l *slog.Logger) *log.Logger {
	return slog.NewLogLogger(l.With("api", "http").Handler(), slog.LevelWarn)
}
