package audit_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

var (
	alpha = tenant.MustParse("alpha")
	beta  = tenant.MustParse("beta")
	t0    = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
)

func newLog(tb testing.TB, db audit.DB) *audit.Log {
	l, err := audit.New(audit.Config{DB: db, Now: func() time.Time { return t0 }})
	require.NoError(tb, err)
	return l
}

func TestRecordIsSeenExactlyWhenTheTransactionCommits(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), pgtest.New(t)
	l := newLog(t, pool)
	e := audit.Event{
		Tenant: alpha, Action: "app.create", Actor: "operator", Subject: "APP", UserID: "u", AppID: "APP",
		Outcome: "ok", Detail: map[string]any{"roles": []any{"R"}, "pin": secret.New([]byte("1234"))},
	}
	roll := errors.New("roll back")
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		require.NoError(t, l.RecordTx(ctx, tx, e))
		return roll
	})
	require.ErrorIs(t, err, roll)
	got, err := l.List(ctx, alpha, audit.Filter{})
	require.NoError(t, err)
	require.Empty(t, got)

	require.NoError(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return l.RecordTx(ctx, tx, e) }))
	got, err = l.List(ctx, alpha, audit.Filter{})
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, uuid.Version(7), got[0].ID.Version())
	want := e
	want.ID, want.At = got[0].ID, t0
	want.Detail = map[string]any{"roles": []any{"R"}, "pin": "[redacted]"} // a secret can not be written, even by mistake
	require.Equal(t, want, got[0])
}

func TestQueueAndAfterWriteWithTheChange(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), pgtest.New(t)
	l := newLog(t, pool)
	e := audit.Event{Tenant: alpha, Action: "a", Outcome: "ok"}

	var b pgx.Batch
	require.NoError(t, l.Queue(&b, e))
	require.NoError(t, pool.SendBatch(ctx, &b).Close())

	args, err := l.Args(e)
	require.NoError(t, err)
	require.Len(t, args, audit.NArgs)
	sql := "with changed as (select 1 where $1::bool) " + audit.After("changed", 2)
	for _, hit := range []bool{true, false} {
		tag, err := pool.Exec(ctx, sql, append([]any{hit}, args...)...)
		require.NoError(t, err)
		require.Equal(t, hit, tag.RowsAffected() == 1)
		args, err = l.Args(e) // each event has its own id
		require.NoError(t, err)
	}
	got, err := l.List(ctx, alpha, audit.Filter{})
	require.NoError(t, err)
	require.Len(t, got, 2)
}

func TestListFiltersPagesAndKeepsTenantsApart(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), pgtest.New(t)
	l := newLog(t, pool)
	var b pgx.Batch
	for i := range 10 {
		for _, id := range []tenant.ID{alpha, beta} { // twins: equal in all but the tenant
			e := audit.Event{
				Tenant: id, At: t0.Add(time.Duration(i) * time.Second), Action: "a", Outcome: "ok",
				Subject: string(rune('0' + i)), UserID: []string{"even", "odd"}[i%2], AppID: []string{"x", "y", "z"}[i%3],
			}
			require.NoError(t, l.Queue(&b, e))
		}
	}
	require.NoError(t, pool.SendBatch(ctx, &b).Close())

	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	for name, c := range map[string]struct {
		f    audit.Filter
		want string
	}{
		"all, newest first":  {audit.Filter{}, "9876543210"},
		"user":               {audit.Filter{UserID: "odd"}, "97531"},
		"applications":       {audit.Filter{Apps: []string{"x", "z"}}, "9865320"},
		"user, application":  {audit.Filter{UserID: "even", Apps: []string{"x"}}, "60"},
		"from is inclusive":  {audit.Filter{From: at(7)}, "987"},
		"to is exclusive":    {audit.Filter{To: at(2)}, "10"},
		"between two micros": {audit.Filter{From: at(7).Add(1), To: at(9).Add(1)}, "98"},
		"limit":              {audit.Filter{Limit: 3}, "987"},
		"before the epoch":   {audit.Filter{From: time.Unix(-5, 0), To: time.Unix(-1, 0)}, ""},
	} {
		got, err := l.List(ctx, alpha, c.f)
		require.NoError(t, err, name)
		s := ""
		for _, e := range got {
			require.Equal(t, alpha, e.Tenant)
			s += e.Subject
		}
		require.Equal(t, c.want, s, name)
	}

	var all string
	for f := (audit.Filter{Limit: 4}); ; {
		page, err := l.List(ctx, alpha, f)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			all += e.Subject
		}
		f.Before = page[len(page)-1].ID
	}
	require.Equal(t, "9876543210", all)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), pgtest.New(t)
	l := newLog(t, pool)
	_, err := audit.New(audit.Config{})
	require.ErrorIs(t, err, audit.ErrInvalid)

	var b pgx.Batch
	for _, e := range []audit.Event{
		{Action: "a", Outcome: "ok"},
		{Tenant: alpha, Outcome: "ok"},
		{Tenant: alpha, Action: "a"},
		{Tenant: alpha, Action: "a", Outcome: "ok", Detail: map[string]any{"f": func() {}}},
	} {
		require.ErrorIs(t, l.Queue(&b, e), audit.ErrInvalid)
	}
	require.Zero(t, b.Len())
	for _, f := range []audit.Filter{{Limit: -1}, {Limit: audit.MaxLimit + 1}, {From: t0, To: t0.Add(-1)}} {
		_, err := l.List(ctx, alpha, f)
		require.ErrorIs(t, err, audit.ErrInvalid)
	}
	_, err = l.List(ctx, tenant.ID{}, audit.Filter{})
	require.ErrorIs(t, err, audit.ErrInvalid)

	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = l.List(over, alpha, audit.Filter{})
	require.ErrorIs(t, err, fault.ErrUnavailable)
}
