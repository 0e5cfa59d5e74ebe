package ca

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// responderRef is the HSM key that answers OCSP for a CA.
func responderRef(t tenant.ID, of revocation.KeyID) hsm.Ref {
	return hsm.Ref{Tenant: t.String(), Role: hsm.RoleOCSP, Name: of.String()}
}

// ResponderKey implements revocation.Authority.
func (s *Issuers) ResponderKey(ctx context.Context, id revocation.KeyID) (crypto.Signer, error) {
	c, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	k, err := s.a.keys.signer(ctx, responderRef(c.tenant, c.keyID()))
	if err != nil {
		return nil, unusable("OCSP signing key", err)
	}
	return bound{ctx, k}, nil
}

// CertifyResponder implements revocation.Authority. The key is made at the first
// certificate and kept for the next ones; destroyOCSPKeys ends it. The caller has recorded the serial and
// sees to it that no two nodes are here at once for one CA: two keys with one
// label would be usable by nobody.
func (s *Issuers) CertifyResponder(ctx context.Context, id revocation.KeyID, serial issuance.Serial) ([]byte, error) {
	c, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := s.recordResponder(ctx, c); err != nil {
		return nil, err
	}
	k, err := s.responderKey(ctx, c)
	if err != nil {
		return nil, unusable("OCSP signing key", err)
	}
	csr, err := issuance.NewRequest(bound{ctx, k})
	if err != nil {
		return nil, unusable("request for the OCSP signing key", err)
	}
	request, err := issuance.ParseRequest(csr)
	if err != nil {
		return nil, unusable("OCSP signing key", err)
	}
	draft, err := issuance.Prepare(issuance.Order{
		Issuer: c.authority, Profile: s.responders, Request: request, Serial: serial, Now: s.a.now(),
		// No tenant: these names are seen by everybody.
		Subject: issuance.Subject{CommonName: "OCSP " + c.keyID().String()},
	})
	if err != nil {
		return nil, fmt.Errorf("ca: draft OCSP signing certificate: %w", err)
	}
	if err := s.auditResponder(ctx, c, draft); err != nil {
		return nil, err
	}
	by, err := s.key(ctx, c)
	if err != nil {
		return nil, err
	}
	der, err := draft.Sign(by)
	if err != nil {
		return nil, unusable("sign OCSP signing certificate", err)
	}
	return der, nil
}

func (s *Issuers) responderKey(ctx context.Context, c *certifier) (key, error) {
	ref := responderRef(c.tenant, c.keyID())
	k, err := s.a.keys.signer(ctx, ref)
	if !errors.Is(err, hsm.ErrKeyNotFound) {
		return k, err
	}
	var id [16]byte
	if _, err := io.ReadFull(s.a.random, id[:]); err != nil {
		return nil, err
	}
	if err := s.a.keys.generate(ctx, ref, hsm.P256, id); err != nil {
		return nil, err
	}
	return s.a.keys.signer(ctx, ref)
}

// auditResponder records what the CA's key is about to sign.
func (s *Issuers) auditResponder(ctx context.Context, c *certifier, d *issuance.Draft) error {
	spki := d.SPKIHash()
	err := pg.InTx(ctx, s.a.db, func(tx pgx.Tx) error {
		return s.a.audit.RecordTx(ctx, tx, audit.Event{
			Tenant: c.tenant, At: s.a.wallTime(), Action: "ocsp.certify", Actor: "signet", Subject: c.keyID().String(), Outcome: "ok",
			Detail: map[string]any{
				"profile": d.Profile().Name(), "serial": d.Serial().String(), "spkiSha256": hex.EncodeToString(spki[:]),
			},
		})
	})
	if err != nil {
		return fmt.Errorf("ca: audit OCSP signing certificate: %w", pg.Unavailable(err))
	}
	return nil
}
