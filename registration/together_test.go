package registration_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

// Many phones at once, on two nodes, with good and wrong signatures of their own:
// each gets the verdict of its own, and the rows and events are those of one
// after the other.
func TestPAAUTH01_VerdictsStoredTogetherStayApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nodes := []*registration.Registrar{w.node, w.newNode(w.db, nil)}
	const phones, rounds = 12, 8
	var wg sync.WaitGroup
	for p := range phones {
		d := w.active(alpha, fmt.Sprintf("user-%d", p))
		wg.Go(func() {
			for i := range rounds {
				req := d.sign(signature.PossessionKnowledge)
				bad := (p+i)%4 == 0
				if bad {
					req.Body = []byte("another body")
				}
				v, err := nodes[(p+i)%2].Verify(t.Context(), alpha, req)
				if err != nil || v.Valid == bad || v.ID != d.id {
					t.Errorf("phone %d round %d: %+v %v", p, i, v, err)
				}
			}
		})
	}
	wg.Wait()
	var verdicts, good int
	require.NoError(t, w.db.QueryRow(t.Context(), `select count(*), count(*) filter (where outcome = 'signature_ok')
		from audit_entry where action = 'registration.verify'`).Scan(&verdicts, &good))
	require.Equal(t, phones*rounds, verdicts)
	require.Equal(t, phones*rounds*3/4, good)
}

// One signature at two nodes that both have the registration in their caches:
// the slower one must find out before it answers.
func TestPAAUTH01_AnOldRowInTheCacheMakesNoVerdict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.newNode(w.db, nil)
	d := w.active(alpha, "petr")
	for _, node := range []*registration.Registrar{w.node, other} {
		v, err := node.Verify(t.Context(), alpha, d.sign(signature.Possession))
		require.NoError(t, err)
		require.True(t, v.Valid)
	}
	// w.node still has the row of before the other's verdict.
	req := d.sign(signature.Possession)
	v, err := other.Verify(t.Context(), alpha, req)
	require.NoError(t, err)
	require.True(t, v.Valid)
	v, err = w.node.Verify(t.Context(), alpha, req)
	require.NoError(t, err)
	require.False(t, v.Valid, "a replay")

	// And of a block, a removal and a flag elsewhere.
	require.NoError(t, other.AddFlags(t.Context(), alpha, registration.FlagParams{Apps: mine, ID: d.id, Flags: []string{"vip"}}))
	v, err = w.node.Verify(t.Context(), alpha, d.sign(signature.PossessionKnowledge))
	require.NoError(t, err)
	require.True(t, v.Valid)
	require.Contains(t, v.Flags, "vip")
	for _, change := range []registration.Change{registration.Block, registration.Remove} {
		require.NoError(t, other.Change(t.Context(), alpha, registration.ChangeParams{Apps: mine, ID: d.id, Change: change}))
		v, err = w.node.Verify(t.Context(), alpha, d.sign(signature.PossessionKnowledge))
		require.NoError(t, err)
		require.False(t, v.Valid)
		require.NotEqual(t, registration.StateActive, v.Status)
	}
}

// All callers of one registration win in turn: nobody loses for ever.
func TestPAAUTH01_OneHotRegistrationServesAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	const callers = 20 // as many as the look-ahead reaches
	reqs := make([]registration.VerifyRequest, callers)
	for i := range reqs {
		reqs[i] = d.sign(signature.Possession)
	}
	var good atomic.Int64
	var wg sync.WaitGroup
	for _, req := range reqs {
		wg.Go(func() {
			v, err := w.node.Verify(context.WithoutCancel(t.Context()), alpha, req)
			if err != nil {
				t.Error(err)
			}
			if v.Valid {
				good.Add(1)
			}
		})
	}
	wg.Wait()
	require.Positive(t, good.Load())
	var events int
	require.NoError(t, w.db.QueryRow(t.Context(), `select count(*) from audit_entry
		where action = 'registration.verify' and subject = $1`, d.id).Scan(&events))
	require.LessOrEqual(t, events, callers)
}

// A row that somebody holds is waited for by its own callers and by nobody else.
func TestPAAUTH01_AHeldRowKeepsNobodyElseWaiting(t *testing.T) {
	t.Parallel()
	for _, lock := range []string{"for update", "for key share"} {
		t.Run(lock, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.active(alpha, "held")
			others := make([]*device, 6) // some of them in the same lane
			for i := range others {
				others[i] = w.active(alpha, fmt.Sprintf("other-%d", i))
			}
			for _, d := range append(others, a) {
				require.True(t, d.verify(d.sign(signature.Possession)).Valid)
			}
			tx, err := w.db.Begin(t.Context())
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), "select 1 from registration where id = $1 "+lock, a.id)
			require.NoError(t, err)
			req := a.sign(signature.Possession)
			done := make(chan registration.Verdict, 1)
			var failed error
			go func() {
				var v registration.Verdict
				v, failed = w.node.Verify(context.WithoutCancel(t.Context()), alpha, req)
				done <- v
			}()
			if lock == "for update" {
				require.Eventually(t, func() bool {
					var n int
					err := w.db.QueryRow(t.Context(), `select count(*) from pg_stat_activity
						where datname = current_database() and wait_event_type = 'Lock'`).Scan(&n)
					return err == nil && n > 0
				}, 10*time.Second, 5*time.Millisecond, "a waits for its row, by a statement of its own")
			}
			for _, d := range others {
				require.True(t, d.verify(d.sign(signature.Possession)).Valid)
			}
			require.NoError(t, tx.Rollback(t.Context()))
			require.True(t, (<-done).Valid)
			require.NoError(t, failed)
		})
	}
}
