package push_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/tenant"
)

// fill puts n messages into an inbox, the oldest first, one a second up to at.
func (w *world) fill(t tenant.ID, user string, n int, at time.Time) (ids []string) {
	w.tb.Helper()
	for range n {
		id, err := uuid.NewV7()
		require.NoError(w.tb, err)
		ids = append(ids, id.String())
	}
	_, err := w.db.Exec(w.tb.Context(), `insert into push_inbox (tenant_id, app_id, user_id, id, subject, summary, body, type, created_at)
select $1, 'APP', $2, id::uuid, 's', 's', '', 'text', $4::timestamptz - ($5 - n) * interval '1 second'
from unnest($3::text[]) with ordinality as message (id, n)`, t.String(), user, ids, at, n)
	require.NoError(w.tb, err)
	return ids
}

func (w *world) letters(t tenant.ID, user string) (n int) {
	w.tb.Helper()
	err := w.db.QueryRow(w.tb.Context(), `select count(*) from push_inbox where tenant_id = $1 and user_id = $2`, t.String(), user).Scan(&n)
	require.NoError(w.tb, err)
	return n
}

// A full inbox loses what was read, the oldest first, and only then what was not.
func TestPUSHX12_InboxIsBounded(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	p := w.pusher()
	ids := w.fill(pgtest.Alpha, "u", push.MaxMessages, time.Now())
	w.fill(pgtest.Alpha, "v", 3, time.Now())
	w.fill(pgtest.Beta, "u", 3, time.Now())
	q := push.InboxQuery{App: "APP", UserID: "u"}
	has := func(id string) bool {
		_, err := p.Message(ctx, pgtest.Alpha, q, id)
		if err != nil {
			require.ErrorIs(t, err, push.ErrInboxNotFound)
		}
		return err == nil
	}
	post := func() string {
		m, err := p.PostInbox(ctx, pgtest.Alpha, push.Letter{App: "APP", UserID: "u", Subject: "s", Summary: "s"})
		require.NoError(t, err)
		require.True(t, has(m.ID))
		return m.ID
	}
	for _, i := range []int{700, 500} {
		require.NoError(t, p.Read(ctx, pgtest.Alpha, q, ids[i]))
	}
	post()
	require.False(t, has(ids[500]))
	require.True(t, has(ids[700]))
	post()
	require.False(t, has(ids[700]))
	require.True(t, has(ids[0]))
	post()
	require.False(t, has(ids[0]))
	require.True(t, has(ids[1]))
	require.Equal(t, push.MaxMessages, w.letters(pgtest.Alpha, "u"))

	// One that was too long, after posts side by side, is cut to its length.
	w.fill(pgtest.Alpha, "u", 5, time.Now())
	post()
	require.Equal(t, push.MaxMessages, w.letters(pgtest.Alpha, "u"))
	require.False(t, has(ids[6]))
	require.Equal(t, 3, w.letters(pgtest.Alpha, "v"))
	require.Equal(t, 3, w.letters(pgtest.Beta, "u"))
}

func TestSweepDeletesOldMessages(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	_, err := push.New(push.Config{DB: w.db, Envelope: w.keys, Audit: w.audit, Registrations: w.regs, Retention: push.MinRetention - 1})
	require.ErrorContains(t, err, "Retention")
	p := w.pusher(func(c *push.Config) { c.Retention = push.MinRetention })
	old := w.now().Add(-push.MinRetention)
	w.fill(pgtest.Alpha, "u", 1300, old.Add(-time.Second))
	w.fill(pgtest.Beta, "u", 200, old.Add(-time.Hour))
	w.fill(pgtest.Alpha, "new", 3, w.now())
	more, err := p.Sweep(ctx)
	require.NoError(t, err)
	require.True(t, more)
	require.Zero(t, w.letters(pgtest.Beta, "u"), "the oldest of all tenants go first")
	require.Equal(t, 500, w.letters(pgtest.Alpha, "u"))
	more, err = w.pusher().Sweep(ctx) // ninety days
	require.NoError(t, err)
	require.False(t, more)
	require.Equal(t, 500, w.letters(pgtest.Alpha, "u"))

	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	require.Eventually(t, func() bool { return w.letters(pgtest.Alpha, "u") == 0 }, soon, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.Equal(t, 3, w.letters(pgtest.Alpha, "new"))

	w.db.Close()
	_, err = p.Sweep(t.Context())
	require.ErrorIs(t, err, fault.ErrUnavailable)
}
