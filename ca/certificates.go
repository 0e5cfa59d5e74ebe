package ca

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// CertificateStatus is where a certificate request stands.
type CertificateStatus string

const (
	StatusRequested CertificateStatus = "REQUESTED" // recorded, not signed yet
	StatusIssued    CertificateStatus = "ISSUED"
	StatusFailed    CertificateStatus = "FAILED" // nothing was signed, or nothing that left
	StatusRevoked   CertificateStatus = "REVOKED"
	StatusExpired   CertificateStatus = "EXPIRED" // was ISSUED until its last valid second
)

// CertificateInfo is the state of a certificate request.
type CertificateInfo struct {
	Ref         string // ULID; for a signer's own certificate the signer's id
	Status      CertificateStatus
	Signer      string // who signed it; "" for a signer's own, which the installation's issuer signs
	User        string // "" when it is nobody's
	Client      string // "" when it is no client's
	Profile     string
	RequestedAt time.Time
	IssuedAt    time.Time // zero until it is issued
}

// ListCertificates returns a page of a tenant's certificates, the newest first,
// and how many pass the filter in all (CA-12). A signer is one entry, under its
// id and in the state of its newest request. Errors: ErrRequest, filter.ErrSyntax,
// filter.ErrProperty, fault.ErrUnavailable. A page behind the last is empty.
func (a *Authority) ListCertificates(ctx context.Context, t tenant.ID, p Page) ([]CertificateInfo, int, error) {
	return listPage(ctx, a.db, listing{
		what: "list certificates", columns: certificateColumns, from: certificateListFrom, order: certificateListOrder,
		args: []any{t.String(), a.lastSecond()}, fields: certificateFields,
	}, p, func(r pgx.CollectableRow) (CertificateInfo, error) { return scanCertificate(r) })
}

// CertificateInfo tells the state of a certificate request (CA-13). A signer's id
// asks for the newest request for its own certificate. Anything else than the
// tenant's is ErrNoCertificate.
func (a *Authority) CertificateInfo(ctx context.Context, t tenant.ID, ref string) (CertificateInfo, error) {
	if !validID(ref) {
		return CertificateInfo{}, ErrNoCertificate
	}
	c, err := oneCertificate(a.db.QueryRow(ctx, sqlCertificateInfo, t.String(), a.lastSecond(), ref))
	if err != nil {
		return CertificateInfo{}, err
	}
	c.Ref = ref
	return c, nil
}

// CertificateBySerial tells the state of the request that a serial was intended
// for, whatever became of it: the serials of a deleted signer are told as well.
// Of a signer's own certificates each has a serial, and the answer is about that
// one. ErrNoCertificate when the tenant never intended it.
func (a *Authority) CertificateBySerial(ctx context.Context, t tenant.ID, serial issuance.Serial) (CertificateInfo, error) {
	return oneCertificate(a.db.QueryRow(ctx, sqlCertificateBySerial, t.String(), a.lastSecond(), serial[:]))
}

func oneCertificate(row pgx.Row) (CertificateInfo, error) {
	c, err := scanCertificate(row)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return CertificateInfo{}, ErrNoCertificate
	case err != nil:
		return CertificateInfo{}, fmt.Errorf("ca: read certificate: %w", pg.Unavailable(err))
	}
	return c, nil
}

// lastSecond is what notAfter is compared with: a certificate is good during the
// whole of its last second.
func (a *Authority) lastSecond() time.Time { return a.now().UTC().Truncate(time.Second) }

func scanCertificate(row interface{ Scan(...any) error }) (CertificateInfo, error) {
	var c CertificateInfo
	var signer, user, client *string
	var issued *time.Time
	err := row.Scan(&c.Ref, &c.Status, &signer, &user, &client, &c.Profile, &c.RequestedAt, &issued)
	c.Signer, c.User, c.Client, c.RequestedAt = deref(signer), deref(user), deref(client), c.RequestedAt.UTC()
	if issued != nil {
		c.IssuedAt = issued.UTC()
	}
	return c, err
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
