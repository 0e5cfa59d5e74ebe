package token

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/tenant"
)

// ParseRemove lets the fuzzer at the parser.
func ParseRemove(body []byte) (id string, ok bool) {
	u, err := parseRemove(body)
	return u.String(), err == nil
}

// Held counts the tokens of a tenant that are held ready.
func Held(k *Keeper, t tenant.ID) int {
	n := 0
	for id := range k.cache.Keys() {
		if id.tenant == t {
			n++
		}
	}
	return n
}

// Asked is a request of a tenant.
type Asked struct {
	Tenant  tenant.ID
	Request VerifyRequest
}

// SpendTogether keeps the nonces of requests, whose digests are taken for right, in
// one flush, and tells which were kept.
func SpendTogether(tb testing.TB, ctx context.Context, k *Keeper, all []Asked) ([]bool, error) {
	tb.Helper()
	items := make([]*spend, len(all))
	for i, a := range all {
		id, ok := parseID(a.Request.Header.TokenID)
		require.True(tb, ok)
		j := judgement{key: key{a.Tenant, id}, req: &a.Request, now: k.clock()}
		var err error
		j.held, err = k.find(ctx, j.key, a.Request.Apps)
		require.NoError(tb, err)
		require.NotNil(tb, j.held)
		items[i] = &spend{
			key: j.key, registration: j.held.registration, nonce: a.Request.Header.Nonce,
			expires: time.Now().Add(time.Hour), event: j.event(outcomeOK),
		}
	}
	spent, err := k.spendTogether(ctx, items)
	out := make([]bool, len(spent))
	for i, s := range spent {
		out[i] = s.won
	}
	return out, err
}
