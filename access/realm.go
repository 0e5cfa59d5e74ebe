package access

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/tenant"
)

// Realm is the identity provider of one tenant.
type Realm struct {
	Tenant   tenant.ID
	Issuer   string // exact value of the iss claim; unique over all realms
	Audience string // must be among the aud claim
	// Exactly one of the two. A file is read again like a URL is fetched again.
	// A URL is https, or http to a loopback address.
	JWKSFile string
	JWKSURL  string
}

// RealmsConfig makes Realms.
type RealmsConfig struct {
	Realms  []Realm
	Client  *http.Client // for JWKS; nil: one without redirects and proxies
	Now     func() time.Time
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Validate reports the first setting that can not work.
func (c RealmsConfig) Validate() error {
	issuers := map[string]bool{}
	for i, r := range c.Realms {
		if err := r.validate(); err != nil {
			return fmt.Errorf("realms[%d]: %w: %w", i, ErrConfig, err)
		}
		if issuers[r.Issuer] {
			return fmt.Errorf("realms[%d]: %w: issuer %q is used twice", i, ErrConfig, r.Issuer)
		}
		issuers[r.Issuer] = true
	}
	return nil
}

func (r Realm) validate() error {
	switch {
	case r.Tenant.IsZero() || r.Tenant == tenant.System:
		return fmt.Errorf("tenant is missing")
	case r.Issuer == "":
		return fmt.Errorf("issuer is missing")
	case r.Audience == "":
		return fmt.Errorf("audience is missing")
	case (r.JWKSFile == "") == (r.JWKSURL == ""):
		return fmt.Errorf("give either a JWKS file or a JWKS URL")
	case r.JWKSFile != "":
		return nil
	}
	u, err := url.Parse(r.JWKSURL)
	if err != nil || u.Host == "" || u.User != nil {
		return fmt.Errorf("JWKS URL %q does not parse", r.JWKSURL)
	}
	if u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()) {
		return nil
	}
	return fmt.Errorf("JWKS URL %q must be https", r.JWKSURL)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Realms authenticates bearer tokens.
type Realms struct {
	byIssuer map[string]*realm
	seen     *otter.Cache[[32]byte, cachedToken]
	now      func() time.Time
	results  *prometheus.CounterVec
	outcomes outcomes
}

type realm struct {
	Realm
	keys *keySet
}

// NewRealms makes Realms. Files are read at once, and refuse when they hold no
// usable key; URLs are fetched when the first token of their realm arrives, so
// that an identity provider that is down does not keep signet from starting.
func NewRealms(c RealmsConfig) (*Realms, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Client == nil {
		// A pinned URL stays pinned: no redirects, and no proxy from the environment.
		c.Client = &http.Client{
			Transport:     &http.Transport{TLSHandshakeTimeout: keysTimeout, IdleConnTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	results := newResults(c.Metrics)
	rs := &Realms{
		byIssuer: map[string]*realm{},
		seen:     otter.Must(&otter.Options[[32]byte, cachedToken]{MaximumSize: tokenCache}),
		now:      c.Now,
		results:  results,
		outcomes: outcomesOf(results, "bearer"),
	}
	for _, r := range c.Realms {
		ks := &keySet{
			source: source(r, c.Client), now: c.Now,
			log: c.Logger.With("tenant", r.Tenant.String()), results: results,
		}
		if r.JWKSFile != "" {
			if err := ks.refreshNow(); err != nil {
				return nil, fmt.Errorf("realm %s: %w: %w", r.Tenant, ErrConfig, err)
			}
		}
		rs.byIssuer[r.Issuer] = &realm{Realm: r, keys: ks}
	}
	return rs, nil
}
