package registration_test

import (
	"context"
	"crypto/ecdh"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/internal/pgcluster"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// BenchmarkVerify is one valid two-factor verification, stored with its audit
// event, warm. "memory" has a database that never syncs and shows our own cost
// and round trips; "durable" syncs each commit to disk. "naive" is what the
// reference does in the same program and on the same database: one transaction
// that locks the row, unseals the server key and does the ECDH.
func BenchmarkVerify(b *testing.B) {
	for _, storage := range []struct {
		name string
		url  func(testing.TB) string
	}{{"memory", pgtest.URL}, {"durable", durable}} {
		w := newWorldOn(b, storage.url(b))
		for _, way := range []struct {
			name   string
			verify func(context.Context, tenant.ID, registration.VerifyRequest) (registration.Verdict, error)
		}{{"together", w.node.Verify}, {"naive", (&naive{w, w.keyring(w.db)}).verify}} {
			for _, callers := range []int{1, 32, 256} {
				b.Run(fmt.Sprintf("%s/%s/callers=%d", storage.name, way.name, callers), func(b *testing.B) {
					phones := make([]*device, callers) // a registration of its own for each
					for i := range phones {
						phones[i] = w.active(alpha, fmt.Sprintf("user-%s-%d-%d", b.Name(), i, time.Now().UnixNano()))
						v, err := way.verify(b.Context(), alpha, phones[i].sign(signature.PossessionKnowledge))
						require.NoError(b, err)
						require.True(b, v.Valid)
					}
					// What came before must not be written out in our time.
					_, err := w.db.Exec(b.Context(), "checkpoint")
					require.NoError(b, err)
					var left, bad atomic.Int64
					left.Store(int64(b.N))
					b.ReportAllocs()
					b.ResetTimer()
					var wg sync.WaitGroup
					for _, d := range phones {
						wg.Go(func() {
							for left.Add(-1) >= 0 {
								v, err := way.verify(b.Context(), alpha, d.sign(signature.PossessionKnowledge))
								if err != nil || !v.Valid {
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
}

// durable starts a cluster on disk that syncs.
func durable(tb testing.TB) string {
	c, err := pgcluster.Start(tb.Context(), pgcluster.Config{Dir: tb.TempDir(), Durable: true})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, c.Stop(context.WithoutCancel(tb.Context()))) })
	pool, err := pg.Open(tb.Context(), c.URL(), pg.Options{})
	require.NoError(tb, err)
	defer pool.Close()
	_, err = pg.Migrate(tb.Context(), pool)
	require.NoError(tb, err)
	for _, t := range []tenant.ID{alpha, beta} {
		require.NoError(tb, tenant.Ensure(tb.Context(), pool, t))
	}
	return c.URL()
}

// naive verifies the way of the reference server.
type naive struct {
	w    *world
	keys *envelope.Keyring
}

func (n *naive) verify(ctx context.Context, t tenant.ID, req registration.VerifyRequest) (v registration.Verdict, err error) {
	err = pgx.BeginFunc(ctx, n.w.db, func(tx pgx.Tx) error {
		var (
			sealed, device, ctr []byte
			counter             int64
		)
		err := tx.QueryRow(ctx, `select server_private_sealed, device_public_key, ctr_data, counter
			from registration where tenant_id = $1 and id = $2 for update`, t.String(), req.Header.ActivationID).
			Scan(&sealed, &device, &ctr, &counter)
		if err != nil {
			return err
		}
		var secretSealed []byte
		if err := tx.QueryRow(ctx, `select secret_sealed from app_version where key = $1`, req.Header.ApplicationKey[:]).
			Scan(&secretSealed); err != nil {
			return err
		}
		secret, err := n.keys.Open(ctx, envelope.Field{
			Tenant: t, Table: "app_version", Column: "secret_sealed", Row: fmt.Sprintf("%x", req.Header.ApplicationKey),
		}, secretSealed)
		if err != nil {
			return err
		}
		scalar, err := n.keys.Open(ctx, envelope.Field{
			Tenant: t, Table: "registration", Column: "server_private_sealed", Row: strings.ToLower(req.Header.ActivationID),
		}, sealed)
		if err != nil {
			return err
		}
		private, err := ecdh.P256().NewPrivateKey(scalar.Reveal())
		if err != nil {
			return err
		}
		public, err := signature.ParsePublicKey(device)
		if err != nil {
			return err
		}
		x, err := private.ECDH(public)
		if err != nil {
			return err
		}
		m, ok := signature.DeriveKeys(signature.MasterSecret(x)).Verify(&req.Header, signature.Request{
			Method: req.Method, URIID: req.URIID, Body: req.Body, Secret: secret.Reveal(),
		}, signature.Counter(ctr), signature.DefaultLookAhead)
		if !ok {
			return nil
		}
		v.Valid = true
		if _, err := tx.Exec(ctx, `update registration set ctr_data = $3, counter = $4, failed_attempts = 0, last_used_at = now()
			where tenant_id = $1 and id = $2`, t.String(), req.Header.ActivationID, m.Next[:], counter+int64(m.Offset)+1); err != nil {
			return err
		}
		return n.w.audit.RecordTx(ctx, tx, audit.Event{
			Tenant: t, Action: "registration.verify", Subject: req.Header.ActivationID, Outcome: "signature_ok",
			Detail: map[string]any{"version": req.Header.Version.String()},
		})
	})
	return v, err
}
