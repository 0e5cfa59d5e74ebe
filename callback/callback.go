package callback

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/egress"
	"github.com/signet-hsm/signet/internal/envelope"
)

// Config makes Callbacks. DB, Envelope and Audit are required.
type Config struct {
	DB       *pgxpool.Pool
	Envelope *envelope.Keyring
	Audit    *audit.Log

	Allow     []netip.Prefix // addresses that are not public and may be called all the same
	AllowHTTP bool           // endpoints without TLS, for development
	TLS       *tls.Config    // nil: the system's roots
	Resolver  *net.Resolver  // nil: the system's

	Timeout time.Duration // of one attempt; 0: 10 s
	Workers int           // deliveries at a time; 0: 16
	Breaker Breaker
	Now     func() time.Time
	Logger  *slog.Logger
}

// Breaker says when an endpoint is left alone.
type Breaker struct {
	Failures int           // in a row; 0: 5
	Open     time.Duration // at first, doubling while it goes on failing; 0: 30 s
	MaxOpen  time.Duration // 0: 10 min
}

// Callbacks keeps endpoints and calls them.
type Callbacks struct {
	c       Config
	guard   egress.Guard
	client  *http.Client
	breaker *breakers
}

// New makes Callbacks; it touches neither database nor network.
func New(c Config) (*Callbacks, error) {
	if c.DB == nil || c.Envelope == nil || c.Audit == nil {
		return nil, errors.New("callback: DB, Envelope and Audit are required")
	}
	if c.Timeout < 0 || c.Workers < 0 || c.Breaker.Failures < 0 || c.Breaker.Open < 0 || c.Breaker.MaxOpen < 0 {
		return nil, errors.New("callback: a bound is negative")
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Workers == 0 {
		c.Workers = 16
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	g := egress.Guard{Allow: c.Allow}
	return &Callbacks{
		c: c, guard: g,
		client:  egress.NewClient(egress.Config{Guard: g, TLS: c.TLS, Resolver: c.Resolver, Timeout: c.Timeout}),
		breaker: newBreakers(c.Breaker, max(1, c.Workers/2), c.Now),
	}, nil
}

// Close ends idle connections to endpoints.
func (c *Callbacks) Close() { c.client.CloseIdleConnections() }
