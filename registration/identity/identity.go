package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/signet-hsm/signet/internal/egress"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"
)

// Endpoint vouches for the users of one application.
type Endpoint struct {
	Tenant tenant.ID
	App    string
	URL    string       // https, no user, no fragment
	Secret secret.Bytes // "whsec_" and Base64 of 24 to 64 bytes: signs our requests
	Commit bool         // registrations are ACTIVE at once; else they wait for their commit
}

// MaxCalls bounds the calls to one endpoint at a time: one that hangs holds no more
// than so many requests of phones.
const MaxCalls = 16

// Config makes a Provider.
type Config struct {
	Endpoints []Endpoint
	Allow     []netip.Prefix // addresses that are not public and may be called all the same
	AllowHTTP bool           // endpoints without TLS, for development
	TLS       *tls.Config    // nil: the system's roots
	Timeout   time.Duration  // of one call; 0: 5 s
	Now       func() time.Time
}

// Provider implements registration.ActivationProvider.
type Provider struct {
	at     map[key]*caller
	client *http.Client
	now    func() time.Time
}

var _ registration.ActivationProvider = (*Provider)(nil)

type key struct {
	tenant tenant.ID
	app    string
}

// caller is an endpoint and the turns at it.
type caller struct {
	url    string
	secret secret.Bytes
	commit bool
	turns  chan struct{}
}

// New checks the endpoints; it does not call them.
func New(c Config) (*Provider, error) {
	if c.Timeout < 0 {
		return nil, errors.New("identity: Timeout is negative")
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	guard := egress.Guard{Allow: c.Allow}
	p := &Provider{
		at: map[key]*caller{}, now: c.Now,
		client: egress.NewClient(egress.Config{Guard: guard, TLS: c.TLS, Timeout: c.Timeout}),
	}
	for _, e := range c.Endpoints {
		k := key{e.Tenant, e.App}
		if e.Tenant.IsZero() || e.App == "" {
			return nil, errors.New("identity: an endpoint needs a tenant and an application")
		}
		if p.at[k] != nil {
			return nil, fmt.Errorf("identity: %s/%s has two endpoints", e.Tenant, e.App)
		}
		if err := checkURL(e.URL, c.AllowHTTP, guard); err != nil {
			return nil, fmt.Errorf("identity: %s/%s: %w", e.Tenant, e.App, err)
		}
		signing, err := egress.ParseSecret(e.Secret)
		if err != nil {
			return nil, fmt.Errorf("identity: %s/%s: %w", e.Tenant, e.App, err)
		}
		p.at[k] = &caller{url: e.URL, secret: signing, commit: e.Commit, turns: make(chan struct{}, MaxCalls)}
	}
	return p, nil
}

// Close ends idle connections.
func (p *Provider) Close() { p.client.CloseIdleConnections() }

func checkURL(s string, allowHTTP bool, guard egress.Guard) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "":
		return errors.New("the URL is not absolute")
	case u.Scheme != "https" && !(u.Scheme == "http" && allowHTTP):
		return errors.New("the URL must be https")
	case u.User != nil || u.Fragment != "":
		return errors.New("the URL must not have a user or a fragment")
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && !guard.Permits(a) {
		return errors.New("the URL leads to an address that is not public and not allowed")
	}
	return nil
}

// Resolve implements registration.ActivationProvider.
func (p *Provider) Resolve(ctx context.Context, a registration.CustomActivation) (*registration.CustomUser, error) {
	c := p.at[key{a.Tenant, a.App}]
	if c == nil {
		return nil, nil
	}
	select {
	case c.turns <- struct{}{}:
		defer func() { <-c.turns }()
	case <-ctx.Done():
		return nil, fmt.Errorf("identity: too many calls under way: %w", ctx.Err())
	}
	user, err := p.ask(ctx, c, a)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return user, nil
}
