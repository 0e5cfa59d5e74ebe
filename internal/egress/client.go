package egress

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/signet-hsm/signet/internal/secret"
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
			Proxy: nil, DialContext: dialer.DialContext,
			TLSClientConfig: c.TLS, TLSHandshakeTimeout: 5 * time.Second, ForceAttemptHTTP2: true,
			MaxIdleConns: 256, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
		},
	}
}

// Header returns what tells the other side which request this is, when it was made
// and that it is ours (standard-webhooks), and what it holds.
func Header(keys []secret.Bytes, id string, at time.Time, body []byte) http.Header {
	return http.Header{
		"Content-Type": {"application/json"}, "User-Agent": {"signet"},
		"Webhook-Id": {id}, "Webhook-Timestamp": {strconv.FormatInt(at.Unix(), 10)},
		"Webhook-Signature": {Sign(keys, id, at, body)},
	}
}

// Cause is why an exchange failed, without the URL, whose query may be a key.
func Cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
