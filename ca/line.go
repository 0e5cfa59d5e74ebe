package ca

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// path is an issuer CA and the certificates from it up to the root.
type path struct {
	issuer *issuance.Authority
	chain  [][]byte
	ref    hsm.Ref
	key    key // nil: not in this token
}

// line is a signer ready to issue: the line from a key to the root. It does not
// change; a request that has one finishes on it, whatever happens to the signer.
type line struct {
	tenant    tenant.ID
	id        string
	serial    []byte // of the certificate: a renewal changes it
	shards    int
	authority *issuance.Authority
	chain     [][]byte // signer first, root last
	key       key      // nil until a request needs to sign

	stencils sync.Map // stencilID -> *issuance.Stencil
}

// stencilID names what certificates of one line have in common.
type stencilID struct {
	profile *issuance.Template
	shard   int
}

// stencil returns the line's for a profile and the CRL that a serial belongs to.
func (a *Authority) stencil(l *line, p *issuance.Template, serial issuance.Serial) (*issuance.Stencil, error) {
	id := stencilID{p, revocation.Shard(serial, l.shards)}
	if s, ok := l.stencils.Load(id); ok {
		return s.(*issuance.Stencil), nil
	}
	made, err := issuance.NewStencil(p, l.authority, a.locations(l.authority, serial, l.shards))
	if err != nil {
		return nil, err
	}
	s, _ := l.stencils.LoadOrStore(id, made)
	return s.(*issuance.Stencil), nil
}

// loadIssuers reads the chains. The issuer's own must be good; an old one that
// has expired is no reason not to start.
func (a *Authority) loadIssuers(c *Config) error {
	own, err := a.loadPath(c.IssuerChain, issuance.VerifyChain)
	if err != nil {
		return fmt.Errorf("ca: %w: issuer chain: %w", ErrConfig, err)
	}
	own.ref = c.IssuerKey
	a.issuer, a.issuers = own.issuer, []path{own}
	for i, other := range c.OtherIssuers {
		p, err := a.loadPath(other.Chain, issuance.VerifyPath)
		if err != nil {
			a.log.LogAttrs(context.Background(), slog.LevelWarn, "ca: the chain of another issuer is left out",
				slog.Int("index", i), slog.Any("cause", err))
			continue
		}
		p.ref = other.Key
		a.issuers = append(a.issuers, p)
	}
	return nil
}

func (a *Authority) loadPath(chain [][]byte, verify func([][]byte, time.Time) error) (path, error) {
	if err := verify(chain, a.now()); err != nil {
		return path{}, err
	}
	issuer, err := newAuthority(chain[0])
	return path{issuer: issuer, chain: chain}, err
}

// loadKeys finds the issuers' keys in the HSM. One that is named and not there
// is refused for other issuers too: without it revocations would go unpublished,
// and nobody would see.
func (a *Authority) loadKeys(ctx context.Context) (err error) {
	for i := range a.issuers {
		p := &a.issuers[i]
		if p.ref == (hsm.Ref{}) {
			continue
		}
		if p.key, err = a.keys.signer(ctx, p.ref); err != nil {
			return unusable("issuer key "+p.ref.String(), err)
		}
		if !p.issuer.Owns(p.key.Public()) {
			return fmt.Errorf("ca: %w: %s is not the key of the issuer's certificate", ErrConfig, p.ref)
		}
	}
	a.issuerKey = a.issuers[0].key
	return nil
}

// newAuthority is issuance.NewAuthority for a key identifier that tables and
// addresses can name it by.
func newAuthority(der []byte) (*issuance.Authority, error) {
	authority, err := issuance.NewAuthority(der)
	if err == nil && len(authority.Certificate().SubjectKeyId) != len(revocation.KeyID{}) {
		err = fmt.Errorf("%w: the subject key identifier must have 20 bytes", issuance.ErrIssuer)
	}
	return authority, err
}

// chainOf joins a signer's certificate and the chain of whoever signed it.
func (a *Authority) chainOf(authority *issuance.Authority) ([][]byte, error) {
	for chain := range a.chainsOf(authority) {
		return chain, nil
	}
	return nil, ErrOtherIssuer
}

// chainsOf yields one chain for each certificate of the issuer's key.
func (a *Authority) chainsOf(authority *issuance.Authority) iter.Seq[[][]byte] {
	cert := authority.Certificate()
	return func(yield func([][]byte) bool) {
		for _, p := range a.issuers {
			above := p.issuer.Certificate()
			if bytes.Equal(cert.RawIssuer, above.RawSubject) && cert.CheckSignatureFrom(above) == nil &&
				!yield(append([][]byte{cert.Raw}, p.chain...)) {
				return
			}
		}
	}
}

// lineOf makes a signer's line, without its key.
func (a *Authority) lineOf(s Signer) (*line, error) {
	authority, err := newAuthority(s.Certificate)
	if err != nil {
		return nil, fmt.Errorf("ca: signer %s: %w", s.ID, err)
	}
	chain, err := a.chainOf(authority)
	if err != nil {
		return nil, fmt.Errorf("ca: signer %s: %w", s.ID, err)
	}
	return &line{tenant: s.Tenant, id: s.ID, authority: authority, chain: chain}, nil
}

// currentLine returns the tenant's ACTIVE signer, from memory if possible. The
// HSM's key is compared with the certificate before anything is signed with it.
func (a *Authority) currentLine(ctx context.Context, t tenant.ID) (*line, error) {
	if l, ok := a.current.Load(t); ok {
		return l.(*line), nil
	}
	s := Signer{Tenant: t}
	var serial []byte
	var shards int
	err := a.db.QueryRow(ctx, sqlLine, t.String()).Scan(&s.ID, &s.Generation, &s.Certificate, &serial, &shards)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, ErrNoSigner
	case err != nil:
		return nil, fmt.Errorf("ca: read signer: %w", pg.Unavailable(err))
	}
	l, err := a.lineOf(s)
	if err != nil {
		return nil, err
	}
	l.serial, l.shards = serial, shards
	if l.key, err = a.signerKey(ctx, t, s.Generation, l.authority); err != nil {
		return nil, fmt.Errorf("ca: signer %s: %w", s.ID, err)
	}
	a.current.Store(t, l)
	return l, nil
}

// signerKey finds a signer's key and compares it with the certificate.
func (a *Authority) signerKey(ctx context.Context, t tenant.ID, generation int, of *issuance.Authority) (key, error) {
	k, err := a.keys.signer(ctx, signerRef(t, generation))
	if err != nil {
		return nil, unusable("signer key", err)
	}
	if !of.Owns(k.Public()) {
		return nil, fmt.Errorf("%w: the HSM's key is not the certificate's", ErrKey)
	}
	return k, nil
}

// forget drops a line that turned out not to be current, unless another request
// has replaced it already.
func (a *Authority) forget(l *line) { a.current.CompareAndDelete(l.tenant, l) }

// forgetSigner drops a tenant's line if it is this signer's.
func (a *Authority) forgetSigner(t tenant.ID, id string) {
	if l, ok := a.current.Load(t); ok && l.(*line).id == id {
		a.forget(l.(*line))
	}
}

// locations are the addresses in a certificate with this serial.
func (a *Authority) locations(issuer *issuance.Authority, serial issuance.Serial, shards int) issuance.Locations {
	if a.pki == "" {
		return issuance.Locations{}
	}
	id := revocation.KeyID(issuer.Certificate().SubjectKeyId)
	return issuance.Locations{
		CRL:    []string{revocation.CRLURL(a.pki, id, revocation.Shard(serial, shards))},
		OCSP:   []string{revocation.OCSPURL(a.pki, id)},
		Issuer: []string{revocation.IssuerURL(a.pki, id)},
	}
}
