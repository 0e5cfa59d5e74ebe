package token_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/token"
	"github.com/signet-hsm/signet/token/tokentest"
)

// Each header of a flush is judged by itself, and has an event exactly when it is
// accepted: a repeated one, one of a token that is gone, one of a registration that
// is blocked, and one of another tenant beside good ones.
func TestHeadersOfOneCommitFailAlone(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	good, removed, blocked := activate(t, in, alpha, "good", signature.V33), activate(t, in, alpha, "removed", signature.V33), activate(t, in, alpha, "blocked", signature.V33)
	other := activate(t, in, beta, "other", signature.V33)
	spent := good.header()
	require.True(t, good.verify(spent).Valid)
	ask := func(p *phone, h signature.TokenHeader) token.Asked {
		return token.Asked{Tenant: p.tenant, Request: p.request(h)}
	}
	twice := good.header()
	batch := []token.Asked{
		ask(removed, removed.header()),
		ask(good, good.header()),
		ask(good, twice),
		ask(good, spent),
		ask(blocked, blocked.header()),
		ask(other, other.header()),
		ask(good, twice),
		ask(good, good.header()),
	}
	for _, a := range batch { // held ready, as they are when the others change behind its back
		_, err := token.SpendTogether(t, t.Context(), in.Tokens, []token.Asked{{Tenant: a.Tenant, Request: fresh(a.Request)}})
		require.NoError(t, err)
	}
	before := count(t, in, "token_nonce")
	_, err := in.DB.Exec(t.Context(), "delete from token where id = $1", removed.token.ID)
	require.NoError(t, err)
	require.NoError(t, in.Registrations.Change(t.Context(), alpha, registration.ChangeParams{Apps: mine, ID: blocked.ActivationID(), Change: registration.Block}))

	won, err := token.SpendTogether(t, t.Context(), in.Tokens, batch)
	require.NoError(t, err)
	require.Equal(t, []bool{false, true, true, false, false, true, false, true}, won)
	require.Equal(t, before+4, count(t, in, "token_nonce"))
	// Of good: the first one, four that made it ready, three of the batch.
	require.Equal(t, map[string]int{"token_ok": 8}, good.outcomes())
	require.Equal(t, map[string]int{"token_ok": 1}, blocked.outcomes())
	require.Equal(t, map[string]int{"token_ok": 2}, other.outcomes())

	again, err := token.SpendTogether(t, t.Context(), in.Tokens, batch[1:3])
	require.NoError(t, err)
	require.Equal(t, []bool{false, false}, again)
}

// fresh is the request with another nonce.
func fresh(r token.VerifyRequest) token.VerifyRequest {
	for i := range r.Header.Nonce {
		r.Header.Nonce[i] ^= 0xff
	}
	return r
}

// The same headers in another order on two nodes at once: each is accepted once,
// and the statements that keep the same nonces do not wait for each other in a circle.
func TestTheSameHeadersOverTwoNodesAtOnce(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	phones := make([]*phone, 4)
	for i := range phones {
		phones[i] = activate(t, in, alpha, string(rune('a'+i)), signature.V33)
	}
	nodes := []tokentest.Node{in.Node, in.NewNode(in.Pool())}
	const headers = 200
	all := make([]token.VerifyRequest, headers)
	for i := range all {
		p := phones[i%len(phones)]
		all[i] = p.request(p.header())
	}
	valid := make([]atomic.Int32, headers)
	var wg sync.WaitGroup
	for _, node := range nodes {
		for _, i := range rand.Perm(headers) {
			wg.Go(func() {
				v, err := node.Tokens.Verify(t.Context(), alpha, all[i])
				if err != nil {
					t.Errorf("header %d: %v", i, err)
				}
				if v.Valid {
					valid[i].Add(1)
				}
			})
		}
	}
	wg.Wait()
	for i := range valid {
		require.EqualValues(t, 1, valid[i].Load(), "header %d", i)
	}
	require.Equal(t, headers, count(t, in, "token_nonce"))
}
