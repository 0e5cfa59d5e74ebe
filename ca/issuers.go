package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

const (
	sqlIssuersSince = `select tenant_id, id, generation, state in ('ACTIVE', 'RETIRED'), certificate, crl_shards, changed_at
from ca_signer where changed_at >= $1 and state in ('ACTIVE', 'RETIRED', 'REVOKED', 'DELETED')`

	sqlNotAfter = `select not_after from ca_certificate
where serial = $1 and issuer_key_id = $2 and status in ('ISSUED', 'REVOKED')`
)

// Issuers are the CAs of the installation as the publisher of CRLs and OCSP
// responses sees them: the issuer CA and the others whose key is in the token,
// and every signer that is ACTIVE or RETIRED, of all tenants. It holds them in
// memory and asks the database only for what has changed. Safe for concurrent use.
type Issuers struct {
	a            *Authority
	profiles     map[*duty]*issuance.Template
	installation []*certifier // does not change

	reading chan struct{} // one asks the database at a time, and holds since
	since   time.Time     // the youngest change that was seen
	waiting chan struct{} // for a CA that is not known

	mu    sync.RWMutex
	asked time.Time // when the database was asked last; changed by who is reading
	byKey map[revocation.KeyID]*certifier
	keyOf map[signerID]revocation.KeyID
}

var _ revocation.Authority = (*Issuers)(nil)

type signerID struct {
	tenant tenant.ID
	id     string
}

// certifier is one CA. It does not change.
type certifier struct {
	tenant     tenant.ID // System for the installation's issuers
	signer     string    // "" for the installation's issuers
	generation int
	authority  *issuance.Authority
	shards     int
	key        key // of the installation's issuers; that of a signer is looked up
}

const (
	// How old the list may be. A new signer is found after that, and a revoked
	// one signs its last CRL or response within it.
	issuersAge = time.Second
	// Rows are stamped by the database's clock when their transaction begins, and
	// appear when it commits, so that a change may be seen after a younger one. No
	// transaction here lasts nearly as long.
	issuersOverlap = 10 * time.Minute
	// How many may wait for a CA that is not known.
	maxAwaiting = 64
)

// Issuers returns the view for a revocation.Publisher. ErrConfig when a
// profile of their keys can not be compiled.
func (a *Authority) Issuers() (*Issuers, error) {
	linter, err := lint.New(lint.Config{Now: a.now})
	if err != nil {
		return nil, fmt.Errorf("ca: %w: %w", ErrConfig, err)
	}
	profiles := make(map[*duty]*issuance.Template, len(duties))
	for _, d := range duties {
		if profiles[d], err = d.profile.Compile(issuance.Checks{Linter: linter}); err != nil {
			return nil, fmt.Errorf("ca: %w: %w", ErrConfig, err)
		}
	}
	return &Issuers{
		a: a, profiles: profiles, installation: a.installation(), reading: make(chan struct{}, 1), waiting: make(chan struct{}, maxAwaiting),
		byKey: map[revocation.KeyID]*certifier{}, keyOf: map[signerID]revocation.KeyID{},
	}, nil
}

// Issuers implements revocation.Authority.
func (s *Issuers) Issuers(ctx context.Context) ([]revocation.Issuer, error) {
	if _, err := s.refresh(ctx); err != nil {
		return nil, err
	}
	now := s.a.now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []revocation.Issuer
	for c := range s.all() {
		if c.valid(now) {
			list = append(list, c.issuer())
		}
	}
	return list, nil
}

// Issuer implements revocation.Authority. When the database is out, what is in
// memory is answered.
func (s *Issuers) Issuer(ctx context.Context, id revocation.KeyID) (revocation.Issuer, error) {
	c, err := s.find(ctx, id)
	if err != nil {
		return revocation.Issuer{}, err
	}
	return c.issuer(), nil
}

// IssuerKey implements revocation.Authority.
func (s *Issuers) IssuerKey(ctx context.Context, id revocation.KeyID) (crypto.Signer, error) {
	c, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.key(ctx, c)
}

// NotAfter implements revocation.Authority.
func (s *Issuers) NotAfter(ctx context.Context, id revocation.KeyID, serial issuance.Serial) (end time.Time, err error) {
	err = s.a.db.QueryRow(ctx, sqlNotAfter, serial[:], id[:]).Scan(&end)
	if errors.Is(err, pgx.ErrNoRows) {
		return time.Time{}, revocation.ErrUnknownCertificate
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("ca: read certificate: %w", pg.Unavailable(err))
	}
	return end.UTC(), nil
}

// find returns a CA that may sign, by a list that is no older than issuersAge.
func (s *Issuers) find(ctx context.Context, id revocation.KeyID) (*certifier, error) {
	began := s.a.now()
	c, young := s.held(id, began)
	if c != nil && !young {
		// It may be revoked since. Without the database it is as it was last.
		if _, err := s.refresh(ctx); err == nil {
			c, _ = s.held(id, began)
		}
	}
	if c == nil {
		var err error
		if c, err = s.await(ctx, id, began); err != nil {
			return nil, err
		}
	}
	if c == nil || !c.valid(s.a.now()) {
		return nil, revocation.ErrNoIssuer
	}
	return c, nil
}

// await looks for a CA that is not known in a list that is read after began. A
// stranger's guesses cost one query a second, whatever their number; a signer that
// is new is worth waiting for that one, unless too many wait already.
func (s *Issuers) await(ctx context.Context, id revocation.KeyID, began time.Time) (*certifier, error) {
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		return nil, revocation.ErrNoIssuer
	}
	for {
		asked, err := s.refresh(ctx)
		if err != nil {
			return nil, err
		}
		if c, _ := s.held(id, began); c != nil || !asked.Before(began) {
			return c, nil
		}
		select {
		case <-time.After(issuersAge):
		case <-ctx.Done():
			return nil, fmt.Errorf("ca: read issuers: %w: %w", fault.ErrUnavailable, ctx.Err())
		}
	}
}

// all yields the installation's issuers and, under mu, the signers.
func (s *Issuers) all() iter.Seq[*certifier] {
	return func(yield func(*certifier) bool) {
		for _, c := range s.installation {
			if !yield(c) {
				return
			}
		}
		for _, c := range s.byKey {
			if !yield(c) {
				return
			}
		}
	}
}

// held returns what is in memory, or nil, and whether it is young enough to be
// believed without the database.
func (s *Issuers) held(id revocation.KeyID, now time.Time) (_ *certifier, young bool) {
	for _, c := range s.installation {
		if c.keyID() == id {
			return c, true
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byKey[id], s.young(now)
}

// young is asked under mu, or by who is reading.
func (s *Issuers) young(now time.Time) bool {
	d := now.Sub(s.asked)
	return d >= 0 && d < issuersAge
}

// signerRow is a signer that has changed.
type signerRow struct {
	tenant, id         string
	generation, shards int
	live               bool
	certificate        []byte
	changed            time.Time
}

// refresh reads the signers that have changed, if the last time is long enough
// ago, and returns when they were read.
func (s *Issuers) refresh(ctx context.Context) (time.Time, error) {
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("ca: read issuers: %w: %w", fault.ErrUnavailable, ctx.Err())
	}
	now := s.a.now()
	if s.young(now) {
		return s.asked, nil
	}
	rows, err := s.a.db.Query(ctx, sqlIssuersSince, s.since.Add(-issuersOverlap))
	if err != nil {
		return time.Time{}, fmt.Errorf("ca: read issuers: %w", pg.Unavailable(err))
	}
	changed, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (c signerRow, err error) {
		err = r.Scan(&c.tenant, &c.id, &c.generation, &c.live, &c.certificate, &c.shards, &c.changed)
		return c, err
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("ca: read issuers: %w", pg.Unavailable(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range changed {
		if err := s.take(&changed[i]); err != nil {
			// One that can not be read must not keep the others from publishing.
			s.a.log.LogAttrs(ctx, slog.LevelError, "ca: a signer's certificate can not be used",
				slog.String("signer", changed[i].id), slog.Any("cause", err))
		}
		if changed[i].changed.After(s.since) {
			s.since = changed[i].changed
		}
	}
	s.asked = now
	return now, nil
}

func (s *Issuers) drop(id signerID) {
	delete(s.byKey, s.keyOf[id])
	delete(s.keyOf, id)
}

func (s *Issuers) take(r *signerRow) error {
	t, err := tenant.Parse(r.tenant)
	if err != nil {
		return err
	}
	id := signerID{t, r.id}
	if !r.live {
		s.drop(id)
		return nil
	}
	if c, ok := s.byKey[s.keyOf[id]]; ok && bytes.Equal(c.certificate().Raw, r.certificate) {
		return nil
	}
	authority, err := newAuthority(r.certificate)
	if err != nil {
		return err
	}
	c := &certifier{tenant: t, signer: r.id, generation: r.generation, authority: authority, shards: r.shards}
	s.drop(id)
	s.byKey[c.keyID()], s.keyOf[id] = c, c.keyID()
	return nil
}

// installation returns the issuers whose key is at hand, each key once: a
// cross-certificate has the name and key of another, so their CRLs are one.
func (a *Authority) installation() []*certifier {
	list := []*certifier{{tenant: tenant.System, authority: a.issuer, shards: issuerShards, key: a.issuerKey}}
	for _, p := range a.issuers[1:] {
		c := &certifier{tenant: tenant.System, authority: p.issuer, shards: issuerShards, key: p.key}
		if p.key != nil && !slices.ContainsFunc(list, func(o *certifier) bool { return o.keyID() == c.keyID() }) {
			list = append(list, c)
		}
	}
	return list
}

// key finds the CA's key in the HSM, bound to the request.
func (s *Issuers) key(ctx context.Context, c *certifier) (crypto.Signer, error) {
	if c.key != nil {
		return bound{ctx, c.key}, nil
	}
	k, err := s.a.signerKey(ctx, c.tenant, c.generation, c.authority)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	return bound{ctx, k}, nil
}

func (c *certifier) certificate() *x509.Certificate { return c.authority.Certificate() }

func (c *certifier) keyID() (id revocation.KeyID) {
	copy(id[:], c.certificate().SubjectKeyId)
	return id
}

func (c *certifier) issuer() revocation.Issuer {
	return revocation.Issuer{Certificate: c.certificate(), Shards: c.shards}
}

func (c *certifier) valid(now time.Time) bool {
	return !now.After(c.certificate().NotAfter)
}
