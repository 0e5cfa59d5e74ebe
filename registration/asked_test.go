package registration_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

// A phone that does not give up leaves one record a minute; a tier, which has
// credentials to answer for, one for each request.
func TestWhoAsksForABlockedRegistrationIsRecordedOnceAMinute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, other := w.active(alpha, "jane"), w.active(alpha, "joe")
	for _, x := range []*device{d, other} {
		require.NoError(t, w.node.Change(t.Context(), alpha, registration.ChangeParams{
			Apps: []string{"APP"}, ID: x.id, Change: registration.Block, Actor: "tier",
		}))
	}
	ask := func(x *device) {
		t.Helper()
		req := x.sign(signature.Possession)
		err := w.node.ValidateSignature(t.Context(), registration.SignedRequest{Header: req.Header, Method: "POST", Body: req.Body})
		require.ErrorIs(t, err, registration.ErrSignature)
	}
	asked := func(x *device) int { return len(w.events(alpha, x.id, "registration.verify")) }
	for range 5 {
		ask(d)
	}
	require.Equal(t, 1, asked(d))
	ask(other)
	require.Equal(t, 1, asked(other), "each registration for itself")

	w.skew.Store(int64(time.Minute + time.Second))
	ask(d)
	ask(d)
	require.Equal(t, 2, asked(d))
	for range 3 {
		require.False(t, d.verify(d.sign(signature.Possession)).Valid)
	}
	require.Equal(t, 5, asked(d))
}
