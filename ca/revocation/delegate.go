package revocation

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
)

// duty is what another key than the CA's own does for it.
type duty uint8

const (
	answers duty = iota // signs OCSP responses
	lists               // signs CRLs
)

var duties = [...]struct {
	delegateSQL
	what    string
	certify func(Authority, context.Context, KeyID, issuance.Serial) ([]byte, error)
	find    func(Authority, context.Context, KeyID) (crypto.Signer, error)
}{
	answers: {delegateStatements("ca_ocsp_delegate"), "OCSP signing certificate", Authority.CertifyResponder, Authority.ResponderKey},
	lists:   {delegateStatements("ca_crl_delegate"), "CRL signing certificate", Authority.CertifyCRLSigner, Authority.CRLKey},
}

// delegateID names a delegate.
type delegateID struct {
	issuer KeyID
	duty   duty
}

// delegate returns the certificate under which responses about the issuer's
// certificates, or its CRLs, are signed. It is made when it is first needed, and
// anew when two thirds of its life are over. A renewal that fails is no matter
// while the old one is valid.
func (p *Publisher) delegate(ctx context.Context, i *Issuer, of duty) (*x509.Certificate, error) {
	id := delegateID{i.KeyID(), of}
	if k, ok := p.delegates.Load(id); ok {
		if d := k.(delegation); bytes.Equal(d.issuer, i.Certificate.Raw) && p.age(d.certificate) == fresh {
			return d.certificate, nil
		}
	}
	old, revision, err := p.storedDelegate(ctx, id.issuer, of)
	if err != nil {
		return nil, err
	}
	if old != nil && p.fit(old, i) == fresh {
		p.delegates.Store(id, delegation{old, i.Certificate.Raw})
		return old, nil
	}
	renewed, err := p.certify(ctx, i, of, revision)
	if err == nil {
		p.delegates.Store(id, delegation{renewed, i.Certificate.Raw})
		return renewed, nil
	}
	if old != nil && p.fit(old, i) == ageing {
		if !errors.Is(err, errElsewhere) {
			p.c.Logger.LogAttrs(ctx, slog.LevelWarn, "revocation: a delegate's certificate could not be renewed",
				slog.String("what", duties[of].what), slog.String("issuer", i.KeyID().String()), slog.Time("notAfter", old.NotAfter), slog.Any("cause", err))
		}
		return old, nil
	}
	if errors.Is(err, errElsewhere) {
		return p.awaitDelegate(ctx, i, of)
	}
	return nil, err
}

// delegateKey returns the delegate's certificate and the key it is of. A token that
// was restored, or on which the key was made anew, has another key than the one that
// was certified; then that one is.
func (p *Publisher) delegateKey(ctx context.Context, i *Issuer, of duty) (*x509.Certificate, crypto.Signer, error) {
	c, err := p.delegate(ctx, i, of)
	if err != nil {
		return nil, nil, err
	}
	key, err := duties[of].find(p.c.Authority, ctx, i.KeyID())
	if err != nil {
		return nil, nil, err
	}
	if sameKey(c.PublicKey, key.Public()) {
		return c, key, nil
	}
	p.delegates.Delete(delegateID{i.KeyID(), of})
	c, revision, err := p.storedDelegate(ctx, i.KeyID(), of)
	if err == nil && (c == nil || !sameKey(c.PublicKey, key.Public())) { // another node may have been faster
		c, err = p.certify(ctx, i, of, revision)
	}
	if errors.Is(err, errElsewhere) {
		err = fmt.Errorf("%w: %w", err, fault.ErrUnavailable)
	}
	return c, key, err
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// delegation is a delegate's certificate that was verified with an issuer's, so
// that it need not be for every response.
type delegation struct {
	certificate *x509.Certificate
	issuer      []byte // DER
}

// fitness of a delegate's certificate.
type fitness uint8

const (
	unfit fitness = iota
	ageing
	fresh
)

func (p *Publisher) fit(c *x509.Certificate, i *Issuer) fitness {
	if !i.signed(c) {
		return unfit
	}
	return p.age(c)
}

// age is fit for a certificate that is known to be the issuer's.
func (p *Publisher) age(c *x509.Certificate) fitness {
	now := p.c.Now()
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return unfit
	}
	if now.Sub(c.NotBefore) > c.NotAfter.Sub(c.NotBefore)*2/3 {
		return ageing
	}
	return fresh
}

// storedDelegate returns the newest certificate and its revision; nil and 0 when
// there is none.
func (p *Publisher) storedDelegate(ctx context.Context, id KeyID, of duty) (_ *x509.Certificate, revision int, _ error) {
	var der []byte
	err := p.c.DB.QueryRow(ctx, duties[of].newest, id[:]).Scan(&der, &revision)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("revocation: read %s: %w", duties[of].what, pg.Unavailable(err))
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, 0, fmt.Errorf("revocation: %s: %w: %w", duties[of].what, ErrRecord, err)
	}
	return c, revision, nil
}

// errElsewhere: another node is issuing the certificate.
var errElsewhere = errors.New("revocation: another node renews the delegate's certificate")

// certify has the CA issue a certificate. The serial is recorded first, and the
// row is the claim that keeps other nodes from doing the same.
func (p *Publisher) certify(ctx context.Context, i *Issuer, of duty, seen int) (*x509.Certificate, error) {
	id, now, d := i.KeyID(), p.wallTime(), &duties[of]
	serial, err := issuance.NewSerial(p.c.Random)
	if err != nil {
		return nil, fmt.Errorf("revocation: %w", err)
	}
	var revision int
	err = p.c.DB.QueryRow(ctx, d.claim, id[:], serial[:], now, now.Add(-p.c.Lease), seen).Scan(&revision)
	if errors.Is(err, pgx.ErrNoRows) || pg.IsUnique(err, d.key) {
		return nil, errElsewhere
	}
	if err != nil {
		return nil, fmt.Errorf("revocation: record %s: %w", d.what, pg.Unavailable(err))
	}
	start := time.Now()
	der, err := d.certify(p.c.Authority, ctx, id, serial)
	p.metrics.signed("delegate", start, err)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCheck, d.what, err)
	}
	if p.fit(c, i) == unfit {
		return nil, fmt.Errorf("%w: %s: not the issuer's", ErrCheck, d.what)
	}
	tag, err := p.c.DB.Exec(ctx, d.store, id[:], revision, der, c.NotBefore, c.NotAfter)
	if err != nil {
		return nil, fmt.Errorf("revocation: store %s: %w", d.what, pg.Unavailable(err))
	}
	if tag.RowsAffected() != 1 {
		return nil, fmt.Errorf("revocation: store %s: %w", d.what, ErrRecord)
	}
	return c, nil
}

// awaitDelegate waits for another node's first certificate.
func (p *Publisher) awaitDelegate(ctx context.Context, i *Issuer, of duty) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, p.c.Wait)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errElsewhere, fault.ErrUnavailable)
		case <-time.After(50 * time.Millisecond):
		}
		c, _, err := p.storedDelegate(ctx, i.KeyID(), of)
		if err != nil {
			return nil, err
		}
		if c != nil && p.fit(c, i) != unfit {
			p.delegates.Store(delegateID{i.KeyID(), of}, delegation{c, i.Certificate.Raw})
			return c, nil
		}
	}
}
