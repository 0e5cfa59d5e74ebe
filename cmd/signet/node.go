package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api"
	"github.com/signet-hsm/signet/api/ast"
	"github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/ops"
	"github.com/signet-hsm/signet/api/powerauth"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

const (
	drainTimeout = 15 * time.Second
	hsmFreshness = 30 * time.Second
)

// node is one serving process: its listeners are open from newNode on, so that
// its addresses are known and a taken port is an error before anything else.
type node struct {
	p         *process
	d         *domains
	authority *ca.Authority
	publisher *revocation.Publisher
	readiness *ops.Readiness

	restListener, grpcListener, opsListener, pkiListener net.Listener
	restServer, opsServer, pkiServer                     *http.Server
	grpcServer                                           *grpc.Server

	workers map[string]func(context.Context) error // blocking, by name; each ends with its context
}

func (p *process) newNode(ctx context.Context, d *domains) (_ *node, err error) {
	n := &node{p: p, d: d}
	defer func() {
		if err != nil {
			n.abandon()
		}
	}()
	for _, t := range p.cfg.Tenants {
		id, err := tenant.Parse(t.ID)
		if err != nil {
			return nil, err
		}
		if err := tenant.Ensure(ctx, d.pool, id); err != nil {
			return nil, err
		}
	}
	if err := n.openAuthority(ctx); err != nil {
		return nil, err
	}
	if err := n.openWorkers(); err != nil {
		return nil, err
	}
	tlsConfig, err := p.cfg.TLS.load()
	if err != nil {
		return nil, err
	}
	if err := n.watch(); err != nil {
		return nil, err
	}
	opsAPI, err := ops.New(ops.Config{Readiness: n.readiness, Metrics: p.registry, Logger: p.log})
	if err != nil {
		return nil, err
	}

	if n.restListener, err = net.Listen("tcp", p.cfg.Listen.REST); err != nil {
		return nil, fmt.Errorf("listen.rest: %w", err)
	}
	if n.grpcListener, err = net.Listen("tcp", p.cfg.Listen.GRPC); err != nil {
		return nil, fmt.Errorf("listen.grpc: %w", err)
	}
	limiter, err := access.NewLimiter(access.LimiterConfig{
		PerCredential: p.cfg.Listen.Concurrency.PerCredential, Total: p.cfg.Listen.Concurrency.Total, Metrics: p.registry,
	})
	if err != nil {
		return nil, err
	}
	parts, err := n.dialects(limiter)
	if err != nil {
		return nil, err
	}
	if p.cfg.Listen.Ops == "" {
		parts = append(parts, opsAPI)
	} else {
		if n.opsListener, err = net.Listen("tcp", p.cfg.Listen.Ops); err != nil {
			return nil, fmt.Errorf("listen.ops: %w", err)
		}
		if n.opsServer, err = api.NewServer(api.ServerConfig{Handler: api.Handler(opsAPI), Logger: p.log}); err != nil {
			return nil, err
		}
	}
	handler, err := p.throttle(api.Handler(parts...))
	if err != nil {
		return nil, err
	}
	rest := api.ServerConfig{Handler: handler, H2C: p.cfg.Listen.H2C, Logger: p.log}
	if tlsConfig != nil {
		rest.TLS = tlsConfig.rest
	}
	if n.restServer, err = api.NewServer(rest); err != nil {
		return nil, err
	}
	grpcConfig := grpc.Config{
		Authority: n.authority, Verifier: d.registrar, Realms: d.realms, Basic: d.basic,
		Registrations: d.registrar, Operations: d.ledger, Tokens: d.tokens, Push: d.pushes, Callbacks: d.callbacks, Audit: d.audit,
		Applications: d.apps, ServiceURL: n.serviceURL(), Users: d.basic,
		Limiter: limiter, MaxDeadline: p.cfg.Listen.MaxDeadline.Std(),
		Ready: n.readiness.Ready, Logger: p.log, Metrics: p.registry,
	}
	if operator := p.cfg.CA.OperatorTenant; operator != "" {
		if grpcConfig.Operator, err = tenant.Parse(operator); err != nil {
			return nil, fmt.Errorf("ca.operator_tenant: %w", err)
		}
	}
	if tlsConfig != nil {
		grpcConfig.TLS = tlsConfig.grpc
	}
	n.grpcServer, err = grpc.New(grpcConfig)
	return n, err
}

// openWorkers names the background work. No request waits for it, and each part
// is safe on any number of nodes.
func (n *node) openWorkers() error {
	runner, err := outbox.NewRunner(outbox.RunnerConfig{
		DB: n.d.pool, Consumers: []outbox.Consumer{
			n.d.pushes.Consumer(), n.d.callbacks.Consumer(), n.d.ledger.Consumer(),
		},
		Logger: n.p.log, Metrics: n.p.registry,
	})
	if err != nil {
		return err
	}
	n.workers = map[string]func(context.Context) error{
		"outbox":        runner.Run,
		"registrations": n.d.registrar.Run,
		"tokens":        n.d.tokens.Run,
		"operations":    n.d.ledger.Run,
		"audit":         n.d.sealer.Run,
		"keys":          n.d.rotation.Run,
		"inbox":         n.d.pushes.Run,
		"ca":            n.authority.Run,
		"revocation":    n.publisher.Run,
	}
	if n.d.guard != nil {
		n.workers["rollback"] = func(ctx context.Context) error { return n.d.guard.Run(ctx, n.d.pool, n.d.audit) }
	}
	return nil
}

func (n *node) dialects(limiter *access.Limiter) ([]api.Part, error) {
	timeout := n.p.cfg.Listen.MaxDeadline.Std() // 0: their own
	a, err := ast.New(ast.Config{
		Signers: n.authority, Realms: n.d.realms, Limiter: limiter, Timeout: timeout, Logger: n.p.log, Metrics: n.p.registry,
	})
	if err != nil {
		return nil, err
	}
	proxies, err := n.p.proxies()
	if err != nil {
		return nil, err
	}
	pa, err := powerauth.New(powerauth.Config{
		TrustedProxies: proxies,
		Registrations:  n.d.registrar, Basic: n.d.basic, Applications: n.d.apps, ServiceURL: n.serviceURL(), Users: n.d.basic,
		Audit: n.d.audit, Operations: n.d.ledger, Tokens: n.d.tokens, Push: n.d.pushes, Callbacks: n.d.callbacks,
		Limiter: limiter, Timeout: timeout, Logger: n.p.log, Metrics: n.p.registry,
	})
	return []api.Part{a, pa}, err
}

func (p *process) proxies() ([]netip.Prefix, error) {
	return prefixes("listen.trusted_proxies", p.cfg.Listen.TrustedProxies)
}

// throttle bounds what one address may ask of the phones' endpoints, if that is
// configured.
func (p *process) throttle(next http.Handler) (http.Handler, error) {
	limit := p.cfg.Listen.RateLimit
	if limit.PerSecond == 0 {
		return next, nil
	}
	proxies, err := p.proxies()
	if err != nil {
		return nil, err
	}
	t, err := api.NewThrottle(api.ThrottleConfig{Rate: limit.PerSecond, Burst: limit.Burst, Proxies: proxies, Metrics: p.registry})
	if err != nil {
		return nil, fmt.Errorf("listen.rate_limit: %w", err)
	}
	return t.Wrap(next), nil
}

// watch says what this node needs for its work. The HSM counts as good when it
// answered lately, so that a probe does not cost it a call each time.
func (n *node) watch() (err error) {
	n.readiness, err = ops.NewReadiness(
		ops.Check{Name: "database", Func: n.d.pool.Ping},
		ops.Check{Name: "schema", Func: func(ctx context.Context) error {
			pending, err := pg.Pending(ctx, n.d.pool)
			if err == nil && pending > 0 {
				err = fmt.Errorf("%d migrations are missing", pending)
			}
			return err
		}},
		ops.Check{Name: "hsm", Func: func(ctx context.Context) error {
			if time.Since(n.d.token.LastGood()) < hsmFreshness {
				return nil
			}
			return n.d.token.Check(ctx)
		}},
	)
	return err
}

// serviceURL is where phones find the service: what the operator says, else the
// listener's own address.
func (n *node) serviceURL() string {
	switch {
	case n.p.cfg.ServiceURL != "":
		return n.p.cfg.ServiceURL
	case n.p.cfg.TLS != nil:
		return "https://" + n.restAddr()
	default:
		return "http://" + n.restAddr()
	}
}

func (n *node) restAddr() string { return n.restListener.Addr().String() }
func (n *node) grpcAddr() string { return n.grpcListener.Addr().String() }

// pkiAddr is empty when this node serves no revocation data.
func (n *node) pkiAddr() string {
	if n.pkiListener == nil {
		return ""
	}
	return n.pkiListener.Addr().String()
}

func (n *node) opsAddr() string {
	if n.opsListener == nil {
		return n.restAddr()
	}
	return n.opsListener.Addr().String()
}

// abandon closes what newNode opened, for a node that will not serve.
func (n *node) abandon() {
	for _, l := range []net.Listener{n.restListener, n.grpcListener, n.opsListener, n.pkiListener} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// serve blocks until ctx ends or a listener fails, then drains: what was
// accepted is answered within drainTimeout.
func (n *node) serve(ctx context.Context) error {
	n.p.cfg.Runtime.apply(n.p.log)
	g, ctx := errgroup.WithContext(ctx)
	serveHTTP := func(s *http.Server, l net.Listener) func() error {
		return func() error {
			var err error
			if s.TLSConfig != nil {
				err = s.ServeTLS(l, "", "")
			} else {
				err = s.Serve(l)
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return err
		}
	}
	g.Go(serveHTTP(n.restServer, n.restListener))
	if n.opsServer != nil {
		g.Go(serveHTTP(n.opsServer, n.opsListener))
	}
	if n.pkiServer != nil {
		g.Go(serveHTTP(n.pkiServer, n.pkiListener))
	}
	g.Go(func() error { return n.grpcServer.Serve(ctx, n.grpcListener) })
	for name, run := range n.workers {
		g.Go(func() error {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("worker %s: %w", name, err)
			}
			return nil
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		n.readiness.Drain()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		var err error
		for _, s := range []*http.Server{n.restServer, n.pkiServer, n.opsServer} {
			if s != nil {
				err = errors.Join(err, s.Shutdown(drain))
			}
		}
		return err
	})
	return g.Wait()
}

type tlsConfigs struct{ rest, grpc *tls.Config }

// load reads the certificate and the callers' CA; nil when TLS is off.
func (c *TLSConfig) load() (*tlsConfigs, error) {
	if c == nil {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	base := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	out := &tlsConfigs{rest: base, grpc: base.Clone()}
	// Devices renew their certificates by showing them; which are good is for the
	// authority to say, from its record.
	out.rest.ClientAuth = tls.RequestClientCert
	if c.ClientCA != "" {
		raw, err := os.ReadFile(c.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("tls.client_ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("tls.client_ca: %s holds no certificate", c.ClientCA)
		}
		out.grpc.ClientCAs, out.grpc.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return out, nil
}
