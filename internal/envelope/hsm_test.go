package envelope_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
	"github.com/signet-hsm/signet/tenant"
)

var _ envelope.KEK = (*hsm.AEAD)(nil)

// The same promises with a KEK that really is in an HSM.
func TestWithTheHSM(t *testing.T) {
	t.Parallel()
	pool := pgtest.New(t)
	token := softhsmtest.New(t)
	ref := hsm.Ref{Tenant: tenant.System.String(), Role: hsm.RoleKEK, Name: "envelope"}
	_, err := token.Generate(t.Context(), ref, hsm.AES256, [16]byte{1})
	require.NoError(t, err)
	kek, err := token.AEAD(t.Context(), ref)
	require.NoError(t, err)
	options := envelope.Options{KEKName: ref.String()}

	ring := envelope.New(pool, kek, options)
	blob, err := ring.Seal(t.Context(), place, []byte("secret"))
	require.NoError(t, err)
	got, err := envelope.New(pool, kek, options).Open(t.Context(), place, blob)
	require.NoError(t, err)
	require.Equal(t, "secret", string(got.Reveal()))

	// A DEK moved to the twin: the HSM's own verdict becomes ours.
	_, err = pool.Exec(t.Context(), `insert into dek (tenant_id, version, kek, sealed, created_at)
		select 'beta', version, kek, sealed, created_at from dek where tenant_id = 'alpha'`)
	require.NoError(t, err)
	_, err = ring.Seal(t.Context(), with(func(f *envelope.Field) { f.Tenant = pgtest.Beta }), []byte("x"))
	require.ErrorIs(t, err, envelope.ErrCorrupt)
	require.ErrorIs(t, err, hsm.ErrTag)

	// The HSM is gone: cached tenants go on, the others hear of an outage.
	require.NoError(t, token.Close())
	_, err = ring.Open(t.Context(), place, blob)
	require.NoError(t, err)
	_, err = envelope.New(pool, kek, options).Open(t.Context(), place, blob)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.NotErrorIs(t, err, envelope.ErrCorrupt)
}
