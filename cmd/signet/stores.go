package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"
)

// process is what every verb that reads a configuration shares.
type process struct {
	cfg      Config
	log      *slog.Logger
	registry *prometheus.Registry
}

// stores are the two things that a node stands on.
type stores struct {
	pool  *pgxpool.Pool
	token *hsm.Token
}

func (s *stores) close() {
	if s.token != nil {
		_ = s.token.Close()
	}
	if s.pool != nil {
		s.pool.Close()
	}
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
	return pg.Open(ctx, dsn, pg.Options{MaxConns: p.cfg.Database.MaxConns})
}

func (p *process) openToken(ctx context.Context) (*hsm.Token, error) {
	c := p.cfg.HSM
	return hsm.Open(ctx, hsm.Config{
		Module: c.Module, Env: c.Env, TokenLabel: c.TokenLabel, TokenSerial: c.TokenSerial,
		PIN: c.PIN.Read, Lanes: c.Lanes, Logger: p.log, Metrics: p.registry,
	})
}

// openStores opens both; the database must be at the version of this binary.
func (p *process) openStores(ctx context.Context) (_ *stores, err error) {
	s := &stores{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.pool, err = p.openDatabase(ctx); err != nil {
		return nil, err
	}
	pending, err := pg.Pending(ctx, s.pool)
	if err != nil {
		return nil, err
	}
	if pending > 0 {
		return nil, fmt.Errorf("the database lacks %d migrations: run `signet migrate`", pending)
	}
	if s.token, err = p.openToken(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// domains are the product's parts, wired.
type domains struct {
	*stores
	keyring   *envelope.Keyring
	audit     *audit.Log
	apps      *app.Registry
	registrar *registration.Registrar
	basic     *access.Basic
	realms    *access.Realms
}

// openDomains wires everything that stands on the key-encryption key.
func (p *process) openDomains(ctx context.Context, s *stores) (*domains, error) {
	kekRef, err := p.cfg.kekRef()
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
	d := &domains{stores: s}
	if d.audit, err = audit.New(audit.Config{DB: s.pool}); err != nil {
		return nil, err
	}
	d.keyring = envelope.New(s.pool, kek, envelope.Options{KEKName: kekRef.String(), Logger: p.log, Metrics: p.registry})
	if d.apps, err = app.New(app.Config{
		DB: s.pool, HSM: s.token, Envelope: d.keyring, Audit: d.audit, Metrics: p.registry,
	}); err != nil {
		return nil, err
	}
	if d.registrar, err = registration.New(registration.Config{
		DB: s.pool, Apps: d.apps, Envelope: d.keyring, Audit: d.audit, Logger: p.log, Metrics: p.registry,
	}); err != nil {
		return nil, err
	}
	if d.basic, err = access.NewBasic(access.BasicConfig{DB: s.pool, Sealer: d.keyring, Metrics: p.registry}); err != nil {
		return nil, err
	}
	if d.realms, err = p.realms(); err != nil {
		return nil, err
	}
	return d, nil
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
