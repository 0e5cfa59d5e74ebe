package token_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
	"github.com/signet-hsm/signet/token"
	"github.com/signet-hsm/signet/token/tokentest"
)

// BenchmarkVerify is one accepted header, warm, stored with its audit event, on a
// database that never syncs: our own cost and round trips. "naive" does what the
// reference does, and the same audit event: read token, registration and nonce,
// insert the nonce, in one transaction.
func BenchmarkVerify(b *testing.B) {
	in := tokentest.New(b)
	for _, way := range []struct {
		name   string
		verify func(context.Context, tenant.ID, token.VerifyRequest) (bool, error)
	}{
		{"together", func(ctx context.Context, t tenant.ID, r token.VerifyRequest) (bool, error) {
			v, err := in.Tokens.Verify(ctx, t, r)
			return v.Valid, err
		}},
		{"naive", naive{in}.verify},
	} {
		for _, callers := range []int{1, 32, 256} {
			b.Run(fmt.Sprintf("%s/callers=%d", way.name, callers), func(b *testing.B) {
				phones := make([]*phone, callers)
				for i := range phones {
					phones[i] = activate(b, in, alpha, fmt.Sprintf("user-%s-%d-%d", b.Name(), i, time.Now().UnixNano()), signature.V33)
					require.True(b, phones[i].verify(phones[i].header()).Valid)
				}
				var left, bad atomic.Int64
				left.Store(int64(b.N))
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for _, p := range phones {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							ok, err := way.verify(b.Context(), alpha, p.request(p.header()))
							if err != nil || !ok {
								bad.Add(1)
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				require.Zero(b, bad.Load())
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "verdicts/s")
			})
		}
	}
}

type naive struct{ in *tokentest.Installation }

func (n naive) verify(ctx context.Context, t tenant.ID, r token.VerifyRequest) (valid bool, err error) {
	err = pgx.BeginFunc(ctx, n.in.DB, func(tx pgx.Tx) error {
		var (
			sealed       []byte
			registration string
			state        string
			seen         int
		)
		if err := tx.QueryRow(ctx, `select registration_id::text, secret_sealed from token where tenant_id = $1 and id = $2`,
			t.String(), strings.ToLower(r.Header.TokenID)).Scan(&registration, &sealed); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `select state from registration where tenant_id = $1 and id = $2`,
			t.String(), registration).Scan(&state); err != nil || state != "ACTIVE" {
			return errors.Join(err, errors.New(state))
		}
		secret, err := n.in.OpenTokenSecret(ctx, t, r.Header.TokenID, registration, sealed)
		if err != nil || !r.Header.Verify(secret.Reveal()) {
			return errors.Join(err, errors.New("digest"))
		}
		if err := tx.QueryRow(ctx, `select count(*) from token_nonce where tenant_id = $1 and token_id = $2 and nonce = $3`,
			t.String(), r.Header.TokenID, r.Header.Nonce[:]).Scan(&seen); err != nil || seen != 0 {
			return errors.Join(err, errors.New("seen"))
		}
		if _, err := tx.Exec(ctx, `insert into token_nonce (tenant_id, token_id, nonce, expires_at) values ($1, $2, $3, now())`,
			t.String(), r.Header.TokenID, r.Header.Nonce[:]); err != nil {
			return err
		}
		valid = true
		return n.in.Audit.RecordTx(ctx, tx, audit.Event{Tenant: t, Action: "token.verify", Subject: registration, Outcome: "token_ok"})
	})
	return valid && err == nil, err
}

func FuzzParseRemove(f *testing.F) {
	for _, s := range []string{`{"requestObject":{"tokenId":"8819ac31-ad29-40d1-ac60-1b54293abe61"}}`, `{}`, `{"requestObject":null}`, "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if id, ok := token.ParseRemove(body); ok {
			require.Len(t, id, 36)
			require.Contains(t, strings.ToLower(string(body)), "tokenid")
		}
	})
}
