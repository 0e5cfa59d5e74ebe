package token_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/token"
	"github.com/signet-hsm/signet/token/tokentest"
)

// statements counts what goes to the database.
type statements struct{ n atomic.Int64 }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	s.n.Add(1)
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A header that is refused by its digest and one of a token that is not there, or
// not the caller's, cost one statement each.
func TestPAAUTH02_RefusalsCostTheSame(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	var asked statements
	config := in.Pool().Config()
	config.ConnConfig.Tracer = &asked
	db, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	node := in.NewNode(db)
	p, twin := activate(t, in, alpha, "petr", signature.V33), activate(t, in, beta, "petr", signature.V33)
	v, err := node.Tokens.Verify(t.Context(), alpha, p.request(p.header()))
	require.NoError(t, err)
	require.True(t, v.Valid)
	for name, request := range map[string]func() token.VerifyRequest{
		"wrong digest": func() token.VerifyRequest {
			r := p.request(p.header())
			r.Header.Digest[0] ^= 1
			return r
		},
		"unknown": func() token.VerifyRequest {
			r := p.request(p.header())
			r.Header.TokenID = uuid.NewString()
			return r
		},
		"of another tenant": func() token.VerifyRequest { return twin.request(twin.header()) },
		"of another application": func() token.VerifyRequest {
			r := p.request(p.header())
			r.Apps = []string{"OTHER"}
			return r
		},
	} {
		req, before := request(), asked.n.Load()
		v, err := node.Tokens.Verify(t.Context(), alpha, req)
		require.NoError(t, err)
		require.Equal(t, token.Verdict{}, v, name)
		require.EqualValues(t, 1, asked.n.Load()-before, name)
	}
}
