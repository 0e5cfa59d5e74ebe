package token

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// ErrToken is a header of a device that is not accepted, whatever the cause.
var ErrToken = fault.New(fault.Unauthenticated, "POWER_AUTH_TOKEN_INVALID", "the token is not valid")

// Authenticate verifies the header of a device that talks to us itself, as Verify
// does: the id of the token leads to the tenant. Errors: ErrToken, and those of
// Verify.
func (k *Keeper) Authenticate(ctx context.Context, h signature.TokenHeader) (registration.Caller, error) {
	c, err := k.authenticate(ctx, h)
	if err != nil {
		return registration.Caller{}, fmt.Errorf("token: authenticate: %w", err)
	}
	return c, nil
}

func (k *Keeper) authenticate(ctx context.Context, h signature.TokenHeader) (registration.Caller, error) {
	id, ok := parseID(h.TokenID)
	if !ok {
		return registration.Caller{}, ErrToken
	}
	var owner, app string
	err := k.db.QueryRow(ctx, sqlOwner, id).Scan(&owner, &app)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return registration.Caller{}, ErrToken
	case err != nil:
		return registration.Caller{}, pg.Unavailable(err)
	}
	t, err := tenant.Parse(owner)
	if err != nil {
		return registration.Caller{}, fmt.Errorf("%w: %w", errStored, err)
	}
	v, err := k.Verify(ctx, t, VerifyRequest{Apps: []string{app}, Header: h, Actor: "device"})
	switch {
	case err != nil:
		return registration.Caller{}, err
	case !v.Valid:
		return registration.Caller{}, ErrToken
	}
	return registration.Caller{Tenant: t, ID: v.RegistrationID, App: v.App, UserID: v.UserID, Flags: v.Flags, Factors: v.Factors}, nil
}
