package token_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/token"
	"github.com/signet-hsm/signet/token/tokentest"
)

// The bound refuses the new token and leaves the old ones alone; removing one
// makes room. The twin has tokens of its own.
func TestARegistrationHasABoundedNumberOfTokens(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	ctx := t.Context()
	p, twin := activate(t, in, alpha, "petr", signature.V33), activate(t, in, beta, "petr", signature.V33)
	_, err := in.Pool().Exec(ctx, `insert into token (tenant_id, id, registration_id, app_id, user_id, factors, secret_sealed, created_at)
		select tenant_id, gen_random_uuid(), registration_id, app_id, user_id, factors, secret_sealed, created_at
		from token, generate_series(1, $1) where registration_id = $2`, token.DefaultMaxTokens-2, p.ActivationID())
	require.NoError(t, err)
	last, err := p.CreateToken(ctx, pk)
	require.NoError(t, err)
	before := len(p.events("token.create"))
	_, err = p.CreateToken(ctx, pk)
	require.ErrorContains(t, err, "ERR0024")
	require.Len(t, p.events("token.create"), before)
	require.True(t, p.verify(p.header()).Valid, "the oldest still works")
	_, err = twin.CreateToken(ctx, pk)
	require.NoError(t, err)
	require.NoError(t, p.RemoveToken(ctx, last, pk))
	_, err = p.CreateToken(ctx, pk)
	require.NoError(t, err)
}
