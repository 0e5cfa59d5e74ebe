package registration

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// ActiveQuery selects registrations that can approve something.
type ActiveQuery struct {
	Apps   []string // the applications that the caller may use; empty means none
	UserID string
	Flag   string // only those that have it; "" any
	ID     string // only this one; "" any
}

// Active returns the ACTIVE registrations of a user, newest first, at most
// MaxList; no match is an empty list.
func (r *Registrar) Active(ctx context.Context, t tenant.ID, q ActiveQuery) ([]Registration, error) {
	list, err := r.active(ctx, t, q)
	if err != nil {
		return nil, fmt.Errorf("registration: active: %w", err)
	}
	return list, nil
}

func (r *Registrar) active(ctx context.Context, t tenant.ID, q ActiveQuery) ([]Registration, error) {
	list := []Registration{}
	if !ValidText(q.UserID) || !optionalText(q.Flag) || len(q.Apps) == 0 {
		return list, nil
	}
	var only any // NULL: any
	if q.ID != "" {
		id, ok := parseID(q.ID)
		if !ok {
			return list, nil
		}
		only = id
	}
	rows, err := r.db.Query(ctx, sqlActive, t.String(), q.UserID, q.Apps, q.Flag, only, MaxList)
	if err != nil {
		return nil, pg.Unavailable(err)
	}
	found, err := pgx.CollectRows(rows, func(s pgx.CollectableRow) (*record, error) {
		row := &record{tenant: t}
		return row, row.scan(s)
	})
	if err != nil {
		return nil, pg.Unavailable(err)
	}
	for _, row := range found {
		reg, err := row.view()
		if err != nil {
			return nil, err
		}
		list = append(list, reg)
	}
	return list, nil
}

// SignPersonalized signs data with the registration's server key: ECDSA P-256
// over SHA-256, ASN.1 DER, randomised. The device has the public half since its
// key exchange. The caller has made sure that it may use the registration.
// Errors: ErrNotFound; ErrChange when it is not ACTIVE.
func (r *Registrar) SignPersonalized(ctx context.Context, t tenant.ID, id string, data []byte) ([]byte, error) {
	der, err := r.signPersonalized(ctx, t, id, data)
	if err != nil {
		return nil, fmt.Errorf("registration: sign: %w", err)
	}
	return der, nil
}

func (r *Registrar) signPersonalized(ctx context.Context, t tenant.ID, id string, data []byte) ([]byte, error) {
	key, ok := parseID(id)
	if !ok {
		return nil, ErrNotFound
	}
	var (
		state  State
		sealed []byte
	)
	err := r.db.QueryRow(ctx, sqlServerPrivate, t.String(), key).Scan(&sealed, &state)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, ErrNotFound
	case err != nil:
		return nil, pg.Unavailable(err)
	case state != StateActive:
		return nil, ErrChange
	}
	return r.signAs(ctx, t, key, sealed, data)
}

// Standing returns the state of a registration, after the lazy expiry, and its
// flags; an unknown one is REMOVED. It is for domains that stand on registrations
// and have checked who asks.
func (r *Registrar) Standing(ctx context.Context, t tenant.ID, id string) (State, []string, error) {
	key, ok := parseID(id)
	if !ok {
		return StateRemoved, nil, nil
	}
	h, err := r.readHot(ctx, t, key)
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("registration: standing: %w", err)
	case !h.found:
		return StateRemoved, nil, nil
	case h.state.inProgress() && !r.now().Before(h.expiresAt):
		return StateRemoved, h.flags, nil // whoever may change it will write it down
	}
	return h.state, h.flags, nil
}
