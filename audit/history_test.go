package audit_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/tenant"
)

func TestHistoryOfARegistration(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), pgtest.New(t)
	l := newLog(t, pool)
	put := func(id tenant.ID, ago time.Duration, e audit.Event) {
		e.Tenant, e.At, e.Outcome = id, t0.Add(-ago), "ok"
		if e.UserID == "" {
			e.UserID = "alice"
		}
		if e.AppID == "" {
			e.AppID = "A"
		}
		require.NoError(t, l.RecordTx(ctx, pool, e))
	}
	put(alpha, 1*time.Hour, audit.Event{Action: "registration.block", Subject: "r1"})
	put(alpha, 2*time.Hour, audit.Event{Action: "operation.approve", Subject: "o1", Detail: map[string]any{"registration": "r1"}})
	put(alpha, 3*time.Hour, audit.Event{Action: "push.send", Subject: "r1"})
	put(alpha, 40*24*time.Hour, audit.Event{Action: "registration.create", Subject: "r1"})
	// Not its own:
	put(alpha, time.Hour, audit.Event{Action: "registration.block", Subject: "r2"})
	put(alpha, time.Hour, audit.Event{Action: "operation.create", Subject: "o2"})
	put(alpha, time.Hour, audit.Event{Action: "registration.block", Subject: "r1", UserID: "bob"})
	put(alpha, time.Hour, audit.Event{Action: "registration.block", Subject: "r1", AppID: "B"})
	put(beta, time.Hour, audit.Event{Action: "registration.block", Subject: "r1"})

	q := audit.HistoryQuery{Registration: "r1", UserID: "alice", App: "A"}
	all, next, err := l.History(ctx, alpha, q)
	require.NoError(t, err)
	require.Equal(t, uuid.Nil, next)
	require.Equal(t, []audit.Item{
		{"r1", "registration_block", "", t0.Add(-time.Hour)},
		{"r1", "operation_approve", `{"registration":"r1"}`, t0.Add(-2 * time.Hour)},
		{"r1", "push_send", "", t0.Add(-3 * time.Hour)},
		{"r1", "registration_create", "", t0.Add(-40 * 24 * time.Hour)},
	}, all)

	for _, size := range []int{1, 2, 3, 4} { // pages of any size are the whole, and none is empty
		q.Limit, q.Before = size, uuid.Nil
		var pages []audit.Item
		for more := true; more; more = q.Before != uuid.Nil {
			var page []audit.Item
			page, q.Before, err = l.History(ctx, alpha, q)
			require.NoError(t, err)
			require.NotEmpty(t, page)
			pages = append(pages, page...)
		}
		require.Equal(t, all, pages)
	}
}

func TestHistoryErrors(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	l := newLog(t, pool)
	for _, limit := range []int{-1, audit.MaxLimit + 1} {
		_, _, err := l.History(t.Context(), alpha, audit.HistoryQuery{Registration: "r1", UserID: "alice", App: "A", Limit: limit})
		require.ErrorIs(t, err, audit.ErrInvalid)
	}
	_, _, err := l.History(t.Context(), tenant.ID{}, audit.HistoryQuery{})
	require.ErrorIs(t, err, audit.ErrInvalid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = l.History(ctx, alpha, audit.HistoryQuery{Registration: "r1", UserID: "alice", App: "A"})
	require.ErrorIs(t, err, fault.ErrUnavailable)
}
