package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/tenant"
)

// Bounds of one page of a listing.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// Filter selects events. The zero value selects the newest DefaultLimit ones of
// the tenant.
type Filter struct {
	UserID string    // empty: any
	Apps   []string  // empty: any
	From   time.Time // inclusive; zero: open
	To     time.Time // exclusive; zero: open
	Before uuid.UUID // continue below the last id of the previous page; zero: from the top
	Limit  int       // 0: DefaultLimit; at most MaxLimit
}

// List returns events, newest first.
func (l *Log) List(ctx context.Context, t tenant.ID, f Filter) ([]Event, error) {
	if t.IsZero() || f.Limit < 0 || f.Limit > MaxLimit || (!f.To.IsZero() && f.To.Before(f.From)) {
		return nil, fmt.Errorf("audit: list: %w", ErrInvalid)
	}
	if f.Limit == 0 {
		f.Limit = DefaultLimit
	}
	if f.Apps == nil {
		f.Apps = []string{}
	}
	q := selection{
		rows: sqlListTenant, from: floor(f.From, uuid.Nil), below: below(f), user: f.UserID, apps: f.Apps, limit: f.Limit,
	}
	q.args = []any{t.String(), q.from, q.below, f.Apps, f.Limit}
	if f.UserID != "" {
		q.rows, q.args = sqlListUser, append(q.args, f.UserID)
	}
	events, err := l.read(ctx, t, &q)
	if err != nil {
		return nil, fmt.Errorf("audit: list: %w", err)
	}
	return events, nil
}

func scan(row pgx.CollectableRow, t tenant.ID) (Event, error) {
	var (
		e      = Event{Tenant: t}
		owner  string
		detail []byte
	)
	if err := row.Scan(&owner, &e.ID, &e.At, &e.Action, &e.Actor, &e.Subject, &e.UserID, &e.AppID, &e.Outcome, &detail); err != nil {
		return Event{}, err
	}
	if owner != t.String() {
		return Event{}, fmt.Errorf("row of tenant %s", owner)
	}
	e.At = e.At.UTC()
	if detail != nil {
		if err := json.Unmarshal(detail, &e.Detail); err != nil {
			return Event{}, err
		}
	}
	return e, nil
}

// floor is the smallest id an event of at can have.
func floor(at time.Time, open uuid.UUID) uuid.UUID {
	if at.IsZero() {
		return open
	}
	if at.Before(time.Unix(0, 0)) { // before every id there is
		return uuid.Nil
	}
	at = at.Add(time.Microsecond - 1).Truncate(time.Microsecond) // a bound between two microseconds rounds up
	id := newID(at)
	id[8] = 0x80
	clear(id[9:])
	return id
}

// below is the exclusive upper bound: the time, the previous page, or the end.
func below(f Filter) uuid.UUID {
	top := floor(f.To, uuid.Max)
	if f.Before != uuid.Nil && string(f.Before[:]) < string(top[:]) {
		return f.Before
	}
	return top
}
