package operation_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/operation"
)

// What ended is kept for the time that was asked for, and for ever when none was;
// what is PENDING, and what the audit log says, is never touched.
func TestPurgeDeletesWhatEndedLongAgo(t *testing.T) {
	t.Parallel()
	ctx, w := t.Context(), newWorld(t)
	keeps := w.node(func(c *operation.Config) { c.Retention = 48 * time.Hour })
	w.template(alpha, payment())
	w.active(alpha, "APP", "jane")
	old, open := w.create(alpha, "jane"), w.create(alpha, "jane")
	require.NoError(t, w.ops.Cancel(ctx, alpha, operation.CancelParams{Apps: all, ID: old.ID}))
	left := func() (ids []string) {
		rows, err := w.db.Query(ctx, `select id::text from operation order by created_at`)
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var id string
			require.NoError(t, rows.Scan(&id))
			ids = append(ids, id)
		}
		return ids
	}
	purge := func(l *operation.Ledger) int {
		t.Helper()
		n, err := l.Purge(ctx)
		require.NoError(t, err)
		return n
	}
	w.skew.Store(int64(47 * time.Hour))
	require.Zero(t, purge(keeps))
	w.skew.Store(int64(49 * time.Hour))
	require.Zero(t, purge(w.ops), "not asked for")
	require.Equal(t, []string{old.ID, open.ID}, left())
	require.Equal(t, 1, purge(keeps))
	require.Zero(t, purge(keeps))
	require.Equal(t, []string{open.ID}, left())
	_, err := w.ops.Get(ctx, alpha, all, old.ID)
	require.ErrorIs(t, err, operation.ErrNotFound)
	require.Equal(t, map[string]int{"create/ok": 1, "cancel/ok": 1}, w.outcomes(alpha, old.ID), "the log stays")

	require.Error(t, operation.Config{
		DB: w.db, Devices: w.devices, Apps: w.apps, Envelope: w.envelope, Audit: w.audit, Retention: time.Hour,
	}.Validate(), "too short to read a result")
}
