package ca

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/tenant"
)

// line is a signer ready to issue: the line from a key to the root. It does not
// change; a request that has one finishes on it, whatever happens to the signer.
type line struct {
	tenant    tenant.ID
	id        string
	authority *issuance.Authority
	chain     [][]byte // signer first, root last
	key       key      // nil until a request needs to sign
}

// lineOf joins a signer's certificate and the issuer's chain.
func (a *Authority) lineOf(s Signer) (*line, error) {
	authority, err := issuance.NewAuthority(s.Certificate)
	if err != nil {
		return nil, fmt.Errorf("ca: signer %s: %w", s.ID, err)
	}
	if authority.Certificate().CheckSignatureFrom(a.issuer.Certificate()) != nil {
		return nil, fmt.Errorf("ca: signer %s: %w", s.ID, ErrOtherIssuer)
	}
	chain := append([][]byte{s.Certificate}, a.issuerChain...)
	return &line{tenant: s.Tenant, id: s.ID, authority: authority, chain: chain}, nil
}

// currentLine returns the tenant's ACTIVE signer, from memory if possible. The
// HSM's key is compared with the certificate before anything is signed with it.
func (a *Authority) currentLine(ctx context.Context, t tenant.ID) (*line, error) {
	if l, ok := a.current.Load(t); ok {
		return l.(*line), nil
	}
	s, err := a.Signer(ctx, t, Current)
	if err != nil {
		return nil, err
	}
	l, err := a.lineOf(s)
	if err != nil {
		return nil, err
	}
	if l.key, err = a.keys.signer(ctx, signerRef(t, s.Generation)); err != nil {
		return nil, unusable("signer key", err)
	}
	if !l.authority.Owns(l.key.Public()) {
		return nil, fmt.Errorf("ca: signer %s: %w: the HSM's key is not the certificate's", s.ID, ErrKey)
	}
	a.current.Store(t, l)
	return l, nil
}

// forget drops a line that turned out not to be current, unless another request
// has replaced it already.
func (a *Authority) forget(l *line) { a.current.CompareAndDelete(l.tenant, l) }
