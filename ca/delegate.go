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

// duty is what a CA has a key of its own for, beside the one that certifies.
type duty struct {
	dutySQL
	role    hsm.Role
	what    string // in errors and logs
	action  string // first part of its actions in the audit trail
	profile issuance.Profile
	subject func(*certifier) issuance.Subject
}

var (
	answering = &duty{
		dutySQL: dutyStatements("ocsp_"), role: hsm.RoleOCSP, what: "OCSP signing", action: "ocsp", profile: issuance.OCSPSigning(),
		// No tenant: these names are seen by everybody.
		subject: func(c *certifier) issuance.Subject { return issuance.Subject{CommonName: "OCSP " + c.keyID().String()} },
	}
	publishing = &duty{
		dutySQL: dutyStatements("crl_"), role: hsm.RoleCRL, what: "CRL signing", action: "crl", profile: issuance.CRLSigning(),
		subject: func(*certifier) issuance.Subject { return issuance.Subject{} }, // the CA's own, by the profile
	}
	duties = []*duty{answering, publishing}
)

// ref is the HSM key of the duty for a CA.
func (d *duty) ref(t tenant.ID, of revocation.KeyID) hsm.Ref {
	return hsm.Ref{Tenant: t.String(), Role: d.role, Name: of.String()}
}

// ResponderKey implements revocation.Authority.
func (s *Issuers) ResponderKey(ctx context.Context, id revocation.KeyID) (crypto.Signer, error) {
	return s.dutyKey(ctx, id, answering)
}

// CRLKey implements revocation.Authority.
func (s *Issuers) CRLKey(ctx context.Context, id revocation.KeyID) (crypto.Signer, error) {
	return s.dutyKey(ctx, id, publishing)
}

// CertifyResponder implements revocation.Authority.
func (s *Issuers) CertifyResponder(ctx context.Context, id revocation.KeyID, serial issuance.Serial) ([]byte, error) {
	return s.certify(ctx, id, serial, answering)
}

// CertifyCRLSigner implements revocation.Authority.
func (s *Issuers) CertifyCRLSigner(ctx context.Context, id revocation.KeyID, serial issuance.Serial) ([]byte, error) {
	return s.certify(ctx, id, serial, publishing)
}

func (s *Issuers) dutyKey(ctx context.Context, id revocation.KeyID, d *duty) (crypto.Signer, error) {
	c, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	k, err := s.a.keys.signer(ctx, d.ref(c.tenant, c.keyID()))
	if err != nil {
		return nil, unusable(d.what+" key", err)
	}
	return bound{ctx, k}, nil
}

// certify issues a certificate for the key of a duty. The key is made at the first
// one and kept for the next ones; destroyDutyKeys ends it. The caller has recorded
// the serial and sees to it that no two nodes are here at once for one CA: two
// keys with one label would be usable by nobody.
func (s *Issuers) certify(ctx context.Context, id revocation.KeyID, serial issuance.Serial, d *duty) ([]byte, error) {
	c, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := s.recordDutyKey(ctx, c, d); err != nil {
		return nil, err
	}
	k, err := s.makeDutyKey(ctx, c, d)
	if err != nil {
		return nil, unusable(d.what+" key", err)
	}
	csr, err := issuance.NewRequest(bound{ctx, k})
	if err != nil {
		return nil, unusable("request for the "+d.what+" key", err)
	}
	request, err := issuance.ParseRequest(csr)
	if err != nil {
		return nil, unusable(d.what+" key", err)
	}
	draft, err := issuance.Prepare(issuance.Order{
		Issuer: c.authority, Profile: s.profiles[d], Request: request, Serial: serial, Now: s.a.now(), Subject: d.subject(c),
	})
	if err != nil {
		return nil, fmt.Errorf("ca: draft %s certificate: %w", d.what, err)
	}
	if err := s.auditDuty(ctx, c, d, draft); err != nil {
		return nil, err
	}
	by, err := s.key(ctx, c)
	if err != nil {
		return nil, err
	}
	der, err := draft.Sign(by)
	if err != nil {
		return nil, unusable("sign "+d.what+" certificate", err)
	}
	return der, nil
}

func (s *Issuers) makeDutyKey(ctx context.Context, c *certifier, d *duty) (key, error) {
	ref := d.ref(c.tenant, c.keyID())
	k, err := s.a.keys.signer(ctx, ref)
	if !errors.Is(err, hsm.ErrKeyNotFound) {
		return k, err
	}
	var id [16]byte
	if _, err := io.ReadFull(s.a.random, id[:]); err != nil {
		return nil, err
	}
	err = s.a.keys.generate(ctx, ref, hsm.P256, id)
	if errors.Is(err, hsm.ErrExists) {
		// Not a key, or it would have been found: half of one, of a process that was
		// killed. The caller's claim is what keeps others from making it right now.
		if err = s.a.keys.destroy(ctx, ref); err == nil {
			err = s.a.keys.generate(ctx, ref, hsm.P256, id)
		}
	}
	if err != nil {
		return nil, err
	}
	return s.a.keys.signer(ctx, ref)
}

// auditDuty records what the CA's key is about to sign.
func (s *Issuers) auditDuty(ctx context.Context, c *certifier, of *duty, d *issuance.Draft) error {
	spki := d.SPKIHash()
	err := pg.InTx(ctx, s.a.db, func(tx pgx.Tx) error {
		return s.a.audit.RecordTx(ctx, tx, audit.Event{
			Tenant: c.tenant, At: s.a.wallTime(), Action: of.action + ".certify", Actor: "signet", Subject: c.keyID().String(), Outcome: "ok",
			Detail: map[string]any{
				"profile": d.Profile().Name(), "serial": d.Serial().String(), "spkiSha256": hex.EncodeToString(spki[:]),
			},
		})
	})
	if err != nil {
		return fmt.Errorf("ca: audit %s certificate: %w", of.what, pg.Unavailable(err))
	}
	return nil
}
