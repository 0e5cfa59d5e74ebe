package ca

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/oklog/ulid/v2"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// State is a signer's state as callers see it.
type State string

const (
	Active  State = "ACTIVE"  // issues
	Retired State = "RETIRED" // its certificates are still good, it issues no more
	Revoked State = "REVOKED" // nothing of it is good any more; its certificate is erased
)

// Signer is a tenant's CA.
type Signer struct {
	ID          string // ULID, also the reference of its certificate
	Tenant      tenant.ID
	Name        string
	Generation  int
	State       State
	Certificate []byte // DER; nil when REVOKED
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Current names the most recently created ACTIVE signer.
const Current = "current"

// Page selects a part of a list.
type Page struct {
	Number int // 1 and up; 0 = 1
	Size   int // 5..100; 0 = 20
	// Filter chooses entries by their properties, in the language of package
	// filter; "" = all. Signers have name, id, createdAt, updatedAt, generation and
	// state; certificates certRef, status, user, client and profile.
	Filter string
}

func (p Page) bounds() (limit int, offset int64, err error) {
	if p.Number == 0 {
		p.Number = 1
	}
	if p.Size == 0 {
		p.Size = defaultPageSize
	}
	var v []fault.Violation
	if p.Number < 1 {
		v = append(v, fault.Violation{Field: "page", Value: p.Number, Hint: "must be 1 or more"})
	}
	if p.Size < minPageSize || p.Size > maxPageSize {
		v = append(v, fault.Violation{Field: "page_size", Value: p.Size, Hint: "must be 5..100"})
	}
	if v != nil {
		return 0, 0, ErrRequest.With(v...)
	}
	return p.Size, (int64(p.Number) - 1) * int64(p.Size), nil
}

// Signer finds a signer by its id or by Current (CA-07). Anything else, another
// tenant's id among it, is ErrNoSigner.
func (a *Authority) Signer(ctx context.Context, t tenant.ID, spec string) (Signer, error) {
	if spec == Current {
		return a.one(ctx, t, sqlSignerCurrent, t.String())
	}
	if !validID(spec) {
		return Signer{}, ErrNoSigner
	}
	return a.one(ctx, t, sqlSignerByID, t.String(), spec)
}

// ListSigners returns a page of a tenant's signers, newest generation first, and
// how many pass the filter in all (CA-05). Errors: ErrRequest, filter.ErrSyntax,
// filter.ErrProperty, fault.ErrUnavailable. A page behind the last is empty.
func (a *Authority) ListSigners(ctx context.Context, t tenant.ID, p Page) ([]Signer, int, error) {
	return listPage(ctx, a.db, listing{
		what: "list signers", columns: signerColumns, from: signerListFrom, order: signerListOrder,
		args: []any{t.String()}, fields: signerFields,
	}, p, func(r pgx.CollectableRow) (Signer, error) { return scanSigner(t, r) })
}

// Chain returns a signer's certificate chain in DER, the signer first and the
// root last (CA-09). ErrNotIssued when the certificate was erased by revocation.
func (a *Authority) Chain(ctx context.Context, t tenant.ID, spec string) ([][]byte, error) {
	s, err := a.Signer(ctx, t, spec)
	if err != nil {
		return nil, err
	}
	if s.Certificate == nil {
		return nil, ErrNotIssued
	}
	l, err := a.lineOf(s)
	if err != nil {
		return nil, err
	}
	return l.chain, nil
}

func (a *Authority) one(ctx context.Context, t tenant.ID, sql string, args ...any) (Signer, error) {
	s, err := scanSigner(t, a.db.QueryRow(ctx, sql, args...))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Signer{}, ErrNoSigner
	case err != nil:
		return Signer{}, fmt.Errorf("ca: read signer: %w", pg.Unavailable(err))
	}
	return s, nil
}

func scanSigner(t tenant.ID, row interface{ Scan(...any) error }) (Signer, error) {
	s := Signer{Tenant: t}
	err := row.Scan(&s.ID, &s.Name, &s.Generation, &s.State, &s.Certificate, &s.CreatedAt, &s.UpdatedAt)
	s.CreatedAt, s.UpdatedAt = s.CreatedAt.UTC(), s.UpdatedAt.UTC()
	return s, err
}

// validID accepts the one canonical spelling of a ULID.
func validID(s string) bool {
	id, err := ulid.ParseStrict(s)
	return err == nil && id.String() == s
}
