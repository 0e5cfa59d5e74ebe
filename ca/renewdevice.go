package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// RenewDevice asks for a new certificate by means of the old one.
type RenewDevice struct {
	// Peer is the certificate whose private key the caller has proven to hold: by
	// TLS client authentication, which it must be for, or else by what Signed says.
	Peer   *x509.Certificate
	Signed bool   // the proof is a signature for this very purpose, not TLS
	CSR    []byte // PKCS#10 in DER: with the old key to renew, with another to rekey
	Actor  string // who asks, for the audit trail; "" = the reference of the old certificate
}

// RenewDevice issues a certificate of the same profile, user, client and hosts as Peer,
// by the tenant's present signer. Peer must be, byte for byte, a certificate that
// the tenant's record has as ISSUED, by a signer that is not revoked or deleted,
// and not be expired beyond Config.RenewGrace. It stays valid to its own end, so
// that a device that never received the answer can ask again. When Peer is revoked
// before the new one is stored, that is not handed out; after, it is revoked
// with it. Errors: ErrPeer, ErrRenewals, and those of Issue.
func (a *Authority) RenewDevice(ctx context.Context, t tenant.ID, r RenewDevice) (Certificate, error) {
	if r.Peer == nil {
		return Certificate{}, fmt.Errorf("ca: renew: %w: no certificate", ErrPeer)
	}
	if !r.Signed && !slices.Contains(r.Peer.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return Certificate{}, fmt.Errorf("ca: renew: %w: it is not for TLS clients", ErrPeer)
	}
	old, err := a.entitled(ctx, t, r.Peer)
	if err != nil {
		return Certificate{}, err
	}
	actor := r.Actor
	if actor == "" {
		actor = old.ref
	}
	return a.issueLeaf(ctx, &leaf{tenant: t, replaces: old.ref, req: &IssueRequest{
		Profile: old.profile, CSR: r.CSR, User: old.user, Client: old.client, AltNames: namesOf(r.Peer), Actor: actor,
	}})
}

// namesOf returns the hosts in a certificate that was found to be ours.
func namesOf(c *x509.Certificate) issuance.AltNames {
	names := issuance.AltNames{DNS: c.DNSNames}
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			names.IP = append(names.IP, a.Unmap())
		}
	}
	return names
}

// held is what the record knows of a certificate that is shown to us.
type held struct {
	ref, profile, user, client, status, signerState string
	certificate, signerCertificate                  []byte
	recent                                          int // renewals of its client, up to the limit
}

// renewalSpan is the time that Config.RenewLimit counts in.
const renewalSpan = time.Hour

func (a *Authority) entitled(ctx context.Context, t tenant.ID, peer *x509.Certificate) (h held, err error) {
	refuse := func(why string) (held, error) { return held{}, fmt.Errorf("ca: renew: %w: %s", ErrPeer, why) }
	var serial issuance.Serial
	if peer.SerialNumber == nil || peer.SerialNumber.Sign() <= 0 || peer.SerialNumber.BitLen() > 8*len(serial) {
		return refuse("no serial of ours")
	}
	peer.SerialNumber.FillBytes(serial[:])
	err = a.db.QueryRow(ctx, sqlHeld, t.String(), serial[:], a.wallTime().Add(-renewalSpan), a.renewLimit).Scan(
		&h.ref, &h.profile, &h.user, &h.client, &h.status, &h.certificate, &h.signerState, &h.signerCertificate, &h.recent)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return refuse("no certificate of this tenant's signers")
	case err != nil:
		return held{}, fmt.Errorf("ca: read certificate: %w", pg.Unavailable(err))
	case h.status != "ISSUED":
		return refuse("it is " + h.status)
	case !bytes.Equal(h.certificate, peer.Raw):
		return refuse("it is not the one that was issued under its serial")
	case h.signerState != string(Active) && h.signerState != string(Retired):
		return refuse("its signer is " + h.signerState)
	}
	switch now := a.now(); {
	case now.Before(peer.NotBefore):
		return refuse("it is not valid yet")
	case now.After(peer.NotAfter.Add(a.renewGrace)):
		return refuse("it has expired")
	}
	if err := a.verifyHeld(&h, peer); err != nil {
		return held{}, fmt.Errorf("ca: renew: %w: %w", ErrPeer, err)
	}
	// By the client and not by the certificate: each renewal yields another one.
	if h.recent >= a.renewLimit {
		return held{}, fmt.Errorf("ca: renew: client %s: %w", h.client, ErrRenewals)
	}
	return h, nil
}

// stillHeld refuses a renewal whose old certificate has ended since.
func (a *Authority) stillHeld(ctx context.Context, l *leaf) error {
	if l.replaces == "" {
		return nil
	}
	var status string
	if err := a.db.QueryRow(ctx, sqlCertificateStatus, l.tenant.String(), l.replaces).Scan(&status); err != nil {
		return fmt.Errorf("ca: read certificate: %w", pg.Unavailable(err))
	}
	if status != "ISSUED" {
		return fmt.Errorf("ca: renew: %w: it is %s", ErrPeer, status)
	}
	return nil
}

// verifyHeld walks from the certificate to the root. The signer's path is judged
// now: it may have been renewed since, and the old certificate may have expired
// within the grace.
func (a *Authority) verifyHeld(h *held, peer *x509.Certificate) error {
	signer, err := newAuthority(h.signerCertificate)
	if err != nil {
		return err
	}
	chain, err := a.chainOf(signer)
	if err != nil {
		return err
	}
	if err := peer.CheckSignatureFrom(signer.Certificate()); err != nil {
		return err
	}
	return issuance.VerifyChain(chain, a.now())
}
