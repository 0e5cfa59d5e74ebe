package audit_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/tenant"
)

func TestPAAUD01_ItemsOfAUser(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), pgtest.New(t)
	l := newLog(t, pool)
	put := func(id tenant.ID, ago time.Duration, e audit.Event) {
		e.Tenant, e.At, e.UserID = id, t0.Add(-ago), "alice"
		require.NoError(t, l.RecordTx(ctx, pool, e))
	}
	hash := "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
	put(alpha, time.Hour, audit.Event{
		Action: "registration.verify", Subject: "r1", AppID: "A", Outcome: "signature_ok",
		Detail: map[string]any{"method": "POST", "uriId": "/operation/authorize", "dataHash": hash, "counter": 4},
	})
	put(alpha, 2*time.Hour, audit.Event{Action: "registration.commit", Subject: "r1", AppID: "A", Outcome: "otp_wrong"})
	put(alpha, 3*time.Hour, audit.Event{
		Action: "operation.create", Subject: "o1", AppID: "B", Outcome: "ok",
		Detail: map[string]any{"template": "login", "registration": "r2"},
	})
	put(alpha, 4*time.Hour, audit.Event{Action: "token.verify", Subject: "r3", AppID: "A", Outcome: "token_ok"})
	put(alpha, 5*time.Hour, audit.Event{
		Action: "registration.vault_unlock", Subject: "r1", AppID: "A", Outcome: "signature_ok",
		Detail: map[string]any{"method": "POST", "uriId": "/pa/vault/unlock", "dataHash": hash},
	})
	put(alpha, 31*24*time.Hour, audit.Event{Action: "registration.create", Subject: "r1", AppID: "A", Outcome: "ok"})
	put(beta, time.Hour, audit.Event{Action: "registration.create", Subject: "r9", AppID: "A", Outcome: "ok"})

	got, err := l.Query(ctx, alpha, audit.UserQuery{UserID: "alice", Apps: []string{"A", "B"}})
	require.NoError(t, err)
	require.Equal(t, []audit.Item{
		{"r1", "signature_ok", "POST\n/operation/authorize\nsha256:" + hash, t0.Add(-time.Hour)},
		{"r1", "registration_commit_otp_wrong", "", t0.Add(-2 * time.Hour)},
		{"r2", "operation_create", `{"registration":"r2","template":"login"}`, t0.Add(-3 * time.Hour)},
		{"r3", "token_ok", "", t0.Add(-4 * time.Hour)},
		{"r1", "signature_ok", "POST\n/pa/vault/unlock\nsha256:" + hash, t0.Add(-5 * time.Hour)},
	}, got, "the last thirty days, newest first")

	for name, c := range map[string]struct {
		q    audit.UserQuery
		want int
	}{
		"an application":            {audit.UserQuery{Apps: []string{"B"}}, 1},
		"from the beginning":        {audit.UserQuery{From: time.UnixMilli(0)}, 6},
		"from is inclusive":         {audit.UserQuery{From: t0.Add(-time.Hour)}, 1},
		"to is inclusive":           {audit.UserQuery{To: t0.Add(-3 * time.Hour).Truncate(time.Millisecond)}, 3},
		"a period without an event": {audit.UserQuery{From: t0.Add(-time.Minute)}, 0},
	} {
		c.q.UserID = "alice"
		if c.q.Apps == nil {
			c.q.Apps = []string{"A", "B"}
		}
		got, err := l.Query(ctx, alpha, c.q)
		require.NoError(t, err, name)
		require.Len(t, got, c.want, name)
		require.NotNil(t, got, name)
	}
}

func TestPAAUD01_Errors(t *testing.T) {
	t.Parallel()
	ctx, pool := t.Context(), pgtest.New(t)
	l := newLog(t, pool)
	require.NoError(t, l.RecordTx(ctx, pool, audit.Event{Tenant: alpha, Action: "a", Outcome: "ok", UserID: "alice", AppID: "A"}))
	for name, c := range map[string]struct {
		q    audit.UserQuery
		want error
	}{
		"no user":               {audit.UserQuery{Apps: []string{"A"}}, audit.ErrInvalid},
		"NUL":                   {audit.UserQuery{UserID: "a\x00", Apps: []string{"A"}}, audit.ErrInvalid},
		"from after to":         {audit.UserQuery{UserID: "alice", Apps: []string{"A"}, From: t0, To: t0.Add(-time.Second)}, audit.ErrPeriod},
		"from in the future":    {audit.UserQuery{UserID: "alice", Apps: []string{"A"}, From: t0.Add(time.Hour)}, audit.ErrPeriod},
		"to before the default": {audit.UserQuery{UserID: "alice", Apps: []string{"A"}, To: t0.Add(-40 * 24 * time.Hour)}, audit.ErrPeriod},
		"negative":              {audit.UserQuery{UserID: "alice", Apps: []string{"A"}, From: time.UnixMilli(-1)}, audit.ErrPeriod},
		"far beyond":            {audit.UserQuery{UserID: "alice", Apps: []string{"A"}, To: time.UnixMilli(1<<62 - 1)}, audit.ErrPeriod},
		"unknown user":          {audit.UserQuery{UserID: "bob", Apps: []string{"A"}}, audit.ErrUser},
		"no application":        {audit.UserQuery{UserID: "alice"}, audit.ErrUser},
		"another's application": {audit.UserQuery{UserID: "alice", Apps: []string{"B"}}, audit.ErrUser},
	} {
		_, err := l.Query(ctx, alpha, c.q)
		require.ErrorIs(t, err, c.want, name)
	}
	_, err := l.Query(ctx, beta, audit.UserQuery{UserID: "alice", Apps: []string{"A"}})
	require.ErrorIs(t, err, audit.ErrUser)
	over, cancel := context.WithCancel(ctx)
	cancel()
	_, err = l.Query(over, alpha, audit.UserQuery{UserID: "alice", Apps: []string{"A"}})
	require.ErrorIs(t, err, fault.ErrUnavailable)
}
