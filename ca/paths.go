package ca

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// Paths returns all chains of a signer that are good now, the newest first, each
// with the signer first and its root last. During a change of the issuer there
// are two: the old issuer's certificate and the new one's are cross-certificates
// of one key, so that a verifier which trusts either root finds a path; and the
// new issuer may have cross-certificates of its own (Config.OtherIssuers). Errors:
// those of Chain.
func (a *Authority) Paths(ctx context.Context, t tenant.ID, spec string) ([][][]byte, error) {
	s, err := a.Signer(ctx, t, spec)
	if err != nil {
		return nil, err
	}
	rows, err := a.db.Query(ctx, sqlSignerPaths, t.String(), s.ID, a.now())
	if err != nil {
		return nil, fmt.Errorf("ca: read signer's certificates: %w", pg.Unavailable(err))
	}
	certificates, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, fmt.Errorf("ca: read signer's certificates: %w", pg.Unavailable(err))
	}
	var paths [][][]byte
	for _, der := range certificates {
		authority, err := newAuthority(der)
		if err != nil {
			return nil, fmt.Errorf("ca: signer %s: %w", s.ID, err)
		}
		paths = slices.AppendSeq(paths, a.chainsOf(authority)) // none when its issuer is not configured
	}
	switch {
	case len(certificates) == 0:
		return nil, ErrNotIssued
	case len(paths) == 0:
		return nil, ErrOtherIssuer
	}
	return paths, nil
}
