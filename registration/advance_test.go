package registration_test

import (
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/rollback"
	"github.com/signet-hsm/signet/signature"
)

// guarded gives the world's node a guard that has made its first beat.
func (w *world) guarded(t *testing.T) *rollback.Guard {
	t.Helper()
	g, err := rollback.Open(rollback.Config{Path: filepath.Join(t.TempDir(), "mark")})
	require.NoError(t, err)
	t.Cleanup(g.Close)
	w.guard = g
	w.node = w.newNode(w.db, nil)
	require.NoError(t, g.Start(t.Context(), w.db, w.audit))
	return g
}

func TestHeldTenantGetsNoVerdict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.guarded(t)
	ctx := t.Context()
	d := w.active(alpha, "petr")
	req := d.sign(signature.PossessionKnowledge)
	waiting := w.create(alpha, "eva")
	before := w.row(alpha, d.id)
	other := w.newDevice(alpha)

	_, err := w.db.Exec(ctx, `delete from rollback_mark`)
	require.NoError(t, err)
	require.NoError(t, g.Start(ctx, w.db, w.audit))
	for name, call := range map[string]func() error{
		"verify": func() error { _, err := w.node.Verify(ctx, alpha, req); return err },
		"verify, unknown": func() error {
			r := req
			r.Header.ActivationID = uuid.NewString()
			_, err := w.node.Verify(ctx, alpha, r)
			return err
		},
		"offline": func() error {
			_, err := w.node.VerifyOffline(ctx, alpha, registration.OfflineRequest{
				Apps: mine, ID: d.id, URIID: "/operation/authorize/offline", Nonce: make([]byte, 16), Data: [][]byte{{}}, Signature: "12345678-12345678",
			})
			return err
		},
		"status":          func() error { _, err := w.node.Status(ctx, d.id, nil); return err },
		"status, unknown": func() error { _, err := w.node.Status(ctx, uuid.NewString(), nil); return err },
		"activate":        func() error { return other.activate(ctx, w.node, waiting.ActivationCode, "") },
		"temporary key": func() error {
			claims, key := d.claims(true)
			_, err := w.node.TemporaryKey(ctx, d.jwtFor(hs256Header, claims, key))
			return err
		},
		"signed by a device": func() error {
			return w.node.ValidateSignature(ctx, registration.SignedRequest{Header: req.Header, Body: req.Body})
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := call()
			require.ErrorIs(t, err, rollback.ErrHeld)
			require.Equal(t, fault.Unavailable, fault.KindOf(err))
		})
	}
	require.Equal(t, before, w.row(alpha, d.id), "nothing was counted")
}

func TestRowFromThePastHoldsEverybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.guarded(t)
	d := w.active(alpha, "petr")
	first := d.sign(signature.PossessionKnowledge)
	before := w.row(alpha, d.id)
	require.True(t, d.verify(first).Valid)
	require.True(t, d.verify(d.sign(signature.PossessionKnowledge)).Valid)

	// A failover loses both: less than a second, no mark knows of it.
	_, err := w.db.Exec(t.Context(), `update registration set revision = $1, counter = $2, ctr_data = $3 where id = $4`,
		before.Revision, before.Counter, before.ctr, d.id)
	require.NoError(t, err)
	_, err = w.node.Verify(t.Context(), alpha, first)
	require.ErrorIs(t, err, rollback.ErrHeld)
	require.ErrorIs(t, g.Check(beta), rollback.ErrHeld)
}

// As an operator does it: every counter moves on, the phone follows its status, and
// what was signed before is worth nothing.
func TestAdvance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	const by = 64
	d, lost, twin := w.active(alpha, "petr"), w.active(alpha, "eva"), w.active(beta, "petr")
	untouched := w.row(beta, twin.id)
	waiting := w.create(alpha, "jan")
	require.NoError(t, w.change(lost.id, registration.Block))
	require.True(t, d.verify(d.sign(signature.PossessionKnowledge)).Valid) // a node has it in memory
	before := w.row(alpha, d.id)

	var old []registration.VerifyRequest
	for range 3 {
		old = append(old, d.sign(signature.PossessionKnowledge))
	}
	var last uuid.UUID
	require.NoError(t, pgx.BeginFunc(ctx, w.db, func(tx pgx.Tx) (err error) {
		var more bool
		last, more, err = registration.Advance(ctx, tx, alpha, by, uuid.Nil)
		require.False(t, more)
		return err
	}))
	require.Equal(t, max(d.id, lost.id), last.String(), "in the order of ids, which is that of their text")
	after := w.row(alpha, d.id)
	require.Equal(t, before.Counter+by, after.Counter)
	require.Equal(t, before.Revision+1, after.Revision)
	require.EqualValues(t, by, w.row(alpha, lost.id).Counter, "a blocked one may be unblocked")
	require.Equal(t, registration.StateBlocked, w.row(alpha, lost.id).State)
	require.Equal(t, untouched, w.row(beta, twin.id))
	require.Zero(t, w.row(alpha, waiting.ID).Counter, "without keys there is no counter")

	for i, req := range old {
		require.False(t, d.verify(req).Valid, i)
	}
	var challenge [16]byte
	status := func() signature.Status {
		a, err := w.node.Status(ctx, d.id, &challenge)
		require.NoError(t, err)
		s, err := d.keys.DecryptStatus(a.Blob[:], &challenge, a.Nonce)
		require.NoError(t, err)
		return s
	}
	s := status()
	require.EqualValues(t, 64, s.LookAhead)
	steps, ok := d.keys.CounterDistance(d.ctr, s.CounterHash, int(s.LookAhead))
	require.True(t, ok)
	require.Equal(t, by-len(old), steps)
	for range steps {
		d.ctr = d.ctr.Next()
	}
	require.True(t, d.verify(d.sign(signature.PossessionKnowledge)).Valid)
	require.EqualValues(t, 20, status().LookAhead, "and life is as usual")

	require.NoError(t, pgx.BeginFunc(ctx, w.db, func(tx pgx.Tx) error {
		again, more, err := registration.Advance(ctx, tx, alpha, by, last)
		require.Equal(t, last, again)
		require.False(t, more)
		return err
	}))
}

var _ rollback.Step = registration.Advance
