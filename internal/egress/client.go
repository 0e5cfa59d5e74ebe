package egress

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// Config makes a client.
type Config struct {
	Guard    Guard
	TLS      *tls.Config   // nil: the system's roots
	Resolver *net.Resolver // nil: the system's
	Timeout  time.Duration // of one exchange; 0: 10 s
}

// NewClient returns a client that keeps what the package promises. An answer's
// body is the caller's to bound.
func NewClient(c Config) *http.Client {
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	dialer := &net.Dialer{Timeout: min(5*time.Second, c.Timeout), Resolver: c.Resolver, ControlContext: c.Guard.Control}
	return &http.Client{
		Timeout:       c.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: nil,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, addr)
			},
			TLSClientConfig: c.TLS, TLSHandshakeTimeout: 5 * time.Second, ForceAttemptHTTP2: true,
			MaxIdleConns: 256, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
		},
	}
}
