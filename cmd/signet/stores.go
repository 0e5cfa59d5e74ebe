package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/callback"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/outbox"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/registration/identity"
	"github.com/signet-hsm/signet/rollback"
	"github.com/signet-hsm/signet/tenant"
	"github.com/signet-hsm/signet/token"
)

// process is what every verb that reads a configuration shares.
type process struct {
	cfg      Config
	log      *slog.Logger
	registry *prometheus.Registry
	guard    *rollback.Guard // of a process that makes verdicts; nil: of none, or there is no mark
}

// stores are the two things that a node stands on.
type stores struct {
	pool  *pgxpool.Pool
	token *hsm.Token
	guard *rollback.Guard
}

func (s *stores) close() {
	if s.token != nil {
		_ = s.token.Close()
	}
	if s.pool != nil {
		s.pool.Close()
	}
	s.guard.Close()
}

// databaseURL joins the configured URL with the password that stands elsewhere.
func (p *process) databaseURL(ctx context.Context) (string, error) {
	if p.cfg.Database.Password == nil {
		return p.cfg.Database.URL, nil
	}
	password, err := p.cfg.Database.Password.Read(ctx)
	if err != nil {
		return "", fmt.Errorf("database.password: %w", err)
	}
	u, err := url.Parse(p.cfg.Database.URL)
	if err != nil {
		return "", errors.New("database.url does not parse")
	}
	u.User = url.UserPassword(u.User.Username(), string(password.Reveal()))
	return u.String(), nil
}

func (p *process) openDatabase(ctx context.Context) (*pgxpool.Pool, error) {
	dsn, err := p.databaseURL(ctx)
	if err != nil {
		return nil, err
	}
	o := pg.Options{MaxConns: p.cfg.Database.MaxConns}
	if p.guard != nil {
		o.Connected = p.guard.Connected
	}
	return pg.Open(ctx, dsn, o)
}

// guardVerdicts opens the guard of a process that will make verdicts; the stores
// that it opens next watch the database with it.
func (p *process) guardVerdicts() (err error) {
	if p.cfg.Rollback.Mark == "" {
		p.log.Warn("a restored database will not be found out: rollback.mark is not set (docs/restore.md)")
		return nil
	}
	p.guard, err = rollback.Open(rollback.Config{Path: p.cfg.Rollback.Mark, Logger: p.log, Metrics: p.registry})
	return err
}

func (p *process) openToken(ctx context.Context, why purpose) (*hsm.Token, error) {
	return openHSM(ctx, &p.cfg.HSM, why, p.log, p.registry)
}

// openMigrated opens a database that is at the version of this binary.
func (p *process) openMigrated(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := p.openDatabase(ctx)
	if err != nil {
		return nil, err
	}
	pending, err := pg.Pending(ctx, pool)
	if err == nil && pending > 0 {
		err = fmt.Errorf("the database lacks %d migrations: run `signet migrate`", pending)
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// openStores opens both; the database must be at the version of this binary.
func (p *process) openStores(ctx context.Context, why purpose) (_ *stores, err error) {
	s := &stores{guard: p.guard}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.pool, err = p.openMigrated(ctx); err != nil {
		return nil, err
	}
	if s.token, err = p.openToken(ctx, why); err != nil {
		return nil, err
	}
	if err := s.token.SelfTest(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// domains are the product's parts, wired.
type domains struct {
	*stores
	keyring   *envelope.Keyring
	rotation  *envelope.Rotation
	audit     *audit.Log
	apps      *app.Registry
	registrar *registration.Registrar
	tokens    *token.Keeper
	ledger    *operation.Ledger
	sealer    *audit.Sealer
	outbox    *outbox.Outbox
	pushes    *push.Pusher
	callbacks *callback.Callbacks
	identity  *identity.Provider // says who activates without a code
	record    *push.File         // pushes go here instead of to the providers; nil: to the providers
	basic     *access.Basic
	realms    *access.Realms
}

// openDomains wires everything that stands on the key-encryption key. The
// stores are the domains' from then on, also when it fails.
func (p *process) openDomains(ctx context.Context, s *stores) (_ *domains, err error) {
	d := &domains{stores: s}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	kekRef, err := p.primaryKEK(ctx, s)
	if err != nil {
		return nil, err
	}
	kek, err := s.token.AEAD(ctx, kekRef)
	if errors.Is(err, hsm.ErrKeyNotFound) {
		return nil, fmt.Errorf("the token has no key-encryption key %s: run `signet bootstrap`", kekRef)
	}
	if err != nil {
		return nil, err
	}
	if d.audit, err = audit.New(audit.Config{DB: s.pool}); err != nil {
		return nil, err
	}
	d.keyring = envelope.New(s.pool, kek, envelope.Options{KEKName: kekRef.String(), KEKs: s.kek, Logger: p.log, Metrics: p.registry})
	if d.rotation, err = envelope.NewRotation(envelope.RotationConfig{
		DB: s.pool, Keyring: d.keyring, Columns: sealedColumns(), Logger: p.log,
		Forgotten: func(t tenant.ID) { d.registrar.Forget(t); d.tokens.Forget(t) },
	}); err != nil {
		return nil, err
	}
	if d.apps, err = app.New(app.Config{
		DB: s.pool, HSM: s.token, Envelope: d.keyring, Audit: d.audit, Metrics: p.registry,
	}); err != nil {
		return nil, err
	}
	if d.outbox, err = outbox.New(outbox.Config{DB: s.pool, Logger: p.log}); err != nil {
		return nil, err
	}
	if d.identity, err = p.openIdentity(ctx); err != nil {
		return nil, err
	}
	if d.registrar, err = registration.New(registration.Config{
		Guard: s.guard, Custom: d.activationProvider(), DB: s.pool, Apps: d.apps, Envelope: d.keyring, Audit: d.audit, Outbox: d.outbox, Logger: p.log, Metrics: p.registry,
		Cache: p.cfg.PowerAuth.RegistrationCache,
	}); err != nil {
		return nil, err
	}
	if d.tokens, err = token.New(token.Config{
		Guard: s.guard, DB: s.pool, Registrations: d.registrar, Roles: d.apps, Envelope: d.keyring, Audit: d.audit,
		MaxTokens: p.cfg.PowerAuth.MaxTokens, Cache: p.cfg.PowerAuth.TokenCache, Logger: p.log, Metrics: p.registry,
	}); err != nil {
		return nil, err
	}
	if d.ledger, err = operation.New(operation.Config{
		DB: s.pool, Devices: d.registrar, Apps: d.apps, Envelope: d.keyring, Audit: d.audit, Outbox: d.outbox,
		Retention: p.cfg.PowerAuth.OperationRetention.Std(), Logger: p.log, Metrics: p.registry,
	}); err != nil {
		return nil, err
	}
	if err = p.openDelivery(d); err != nil {
		return nil, err
	}
	if _, err = s.token.Lookup(ctx, audit.KeyRef()); err != nil {
		return nil, fmt.Errorf("the key that signs the audit log: %w: run `signet bootstrap`", err)
	}
	if d.sealer, err = audit.NewSealer(audit.SealerConfig{DB: s.pool, Keys: s.token, Logger: p.log, Metrics: p.registry}); err != nil {
		return nil, err
	}
	if d.basic, err = access.NewBasic(access.BasicConfig{DB: s.pool, Sealer: d.keyring, Audit: d.audit, Metrics: p.registry}); err != nil {
		return nil, err
	}
	if d.realms, err = p.realms(); err != nil {
		return nil, err
	}
	if err = s.guard.Start(ctx, s.pool, d.audit); err != nil {
		return nil, err
	}
	return d, nil
}

// primaryKEK is the key-encryption key that is in use: the configured one is the
// first, and its successors are recorded.
func (p *process) primaryKEK(ctx context.Context, s *stores) (hsm.Ref, error) {
	name, err := envelope.PrimaryKEK(ctx, s.pool)
	if err != nil {
		return hsm.Ref{}, err
	}
	if name == "" {
		return p.cfg.kekRef()
	}
	return hsm.ParseRef(name)
}

// kek finds a key-encryption key by the name that is stored with what it sealed.
func (s *stores) kek(ctx context.Context, name string) (envelope.KEK, error) {
	ref, err := hsm.ParseRef(name)
	if err != nil {
		return nil, err
	}
	return s.token.AEAD(ctx, ref)
}

// sealedColumns are all columns of sealed values; a test holds them against the
// schema.
func sealedColumns() []envelope.Column {
	return slices.Concat(
		access.SealedColumns(), app.SealedColumns(), registration.SealedColumns(), token.SealedColumns(),
		operation.SealedColumns(), push.SealedColumns(), callback.SealedColumns(),
	)
}

// openDelivery wires what is told to the outside world.
func (p *process) openDelivery(d *domains) (err error) {
	if p.cfg.Push.Record != "" {
		if d.record, err = push.OpenFile(p.cfg.Push.Record); err != nil {
			return fmt.Errorf("push.record: %w", err)
		}
	}
	if d.pushes, err = push.New(push.Config{
		DB: d.pool, Envelope: d.keyring, Audit: d.audit, Registrations: d.registrar, Outbox: d.outbox,
		Record: d.record, Retention: p.cfg.Push.InboxRetention.Std(), Logger: p.log, Metrics: p.registry,
	}); err != nil {
		return err
	}
	allow, err := prefixes("callbacks.allow", p.cfg.Callbacks.Allow)
	if err != nil {
		return err
	}
	d.callbacks, err = callback.New(callback.Config{
		DB: d.pool, Envelope: d.keyring, Audit: d.audit, Allow: allow, AllowHTTP: p.cfg.Callbacks.AllowHTTP, Logger: p.log,
	})
	return err
}

// openIdentity wires the services that say who activates; nil when there are none.
func (p *process) openIdentity(ctx context.Context) (*identity.Provider, error) {
	c := p.cfg.PowerAuth.CustomActivation
	if len(c.Endpoints) == 0 {
		return nil, nil
	}
	const name = "powerauth.custom_activation"
	allow, err := prefixes(name+".allow", c.Allow)
	if err != nil {
		return nil, err
	}
	endpoints := make([]identity.Endpoint, len(c.Endpoints))
	for i, e := range c.Endpoints {
		id, err := tenant.Parse(e.Tenant)
		if err != nil {
			return nil, fmt.Errorf("%s.endpoints[%d].tenant: %w", name, i, err)
		}
		signing, err := e.Secret.Read(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s.endpoints[%d].secret: %w", name, i, err)
		}
		endpoints[i] = identity.Endpoint{Tenant: id, App: e.App, URL: e.URL, Secret: signing, Commit: e.Commit}
	}
	provider, err := identity.New(identity.Config{Endpoints: endpoints, Allow: allow, AllowHTTP: c.AllowHTTP, Timeout: c.Timeout.Std()})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return provider, nil
}

// activationProvider is a nil interface when nobody is configured: a nil pointer in
// it would be somebody.
func (d *domains) activationProvider() registration.ActivationProvider {
	if d.identity == nil {
		return nil
	}
	return d.identity
}

func prefixes(name string, list []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		var err error
		if out[i], err = netip.ParsePrefix(s); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return out, nil
}

// close ends what openDomains opened; the stores have their own.
func (d *domains) close() {
	if d.callbacks != nil {
		d.callbacks.Close()
	}
	if d.identity != nil {
		d.identity.Close()
	}
	if d.record != nil {
		_ = d.record.Close()
	}
	d.stores.close()
}

func (p *process) realms() (*access.Realms, error) {
	realms := make([]access.Realm, 0, len(p.cfg.Tenants))
	for _, t := range p.cfg.Tenants {
		id, err := tenant.Parse(t.ID)
		if err != nil {
			return nil, err
		}
		realms = append(realms, access.Realm{
			Tenant: id, Issuer: t.Issuer, Audience: t.Audience, JWKSFile: t.JWKSFile, JWKSURL: t.JWKSURL,
		})
	}
	return access.NewRealms(access.RealmsConfig{Realms: realms, Logger: p.log, Metrics: p.registry})
}
