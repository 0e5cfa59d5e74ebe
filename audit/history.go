package audit

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/signet-hsm/signet/tenant"
)

// HistoryQuery asks for the events of one registration, whose user and
// application the caller has found out: events are looked up by the user.
type HistoryQuery struct {
	Registration string
	UserID, App  string
	Before       uuid.UUID // continue below this event; zero: from the newest
	Limit        int       // 0: DefaultLimit; at most MaxLimit
}

// History returns the events of a registration and of its device's tokens and
// decisions, newest first, and where the next page continues: uuid.Nil after the
// last one. Errors: ErrInvalid, fault.ErrUnavailable.
func (l *Log) History(ctx context.Context, t tenant.ID, q HistoryQuery) (items []Item, next uuid.UUID, err error) {
	if t.IsZero() || q.Limit < 0 || q.Limit > MaxLimit {
		return nil, next, fmt.Errorf("audit: history: %w", ErrInvalid)
	}
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	if q.Before == uuid.Nil {
		q.Before = uuid.Max
	}
	// One more than asked for tells whether there is a next page.
	events, err := l.read(ctx, t, &selection{
		rows: sqlHistory, args: []any{t.String(), q.UserID, q.App, q.Before, q.Registration, q.Limit + 1},
		below: q.Before, user: q.UserID, apps: []string{q.App}, limit: q.Limit + 1,
		also: func(e *Event) bool {
			return e.Subject == q.Registration || e.Detail["registration"] == q.Registration
		},
	})
	if err != nil {
		return nil, next, fmt.Errorf("audit: history: %w", err)
	}
	if len(events) > q.Limit {
		events = events[:q.Limit]
		next = events[q.Limit-1].ID
	}
	items = make([]Item, len(events))
	for i := range events {
		items[i] = item(&events[i])
		items[i].ActivationID = q.Registration // also of a push to it
	}
	return items, next, nil
}
