package grpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime/debug"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	api "github.com/signet-hsm/signet/api/grpc"
	"github.com/signet-hsm/signet/api/internal/apitest"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// BenchmarkServingAgainstNaive is a signature verified end to end, from another
// process to the commit and back: the service beside the same server in front of a
// transaction for each request that locks the row, on the same database. Each way
// has phones of its own.
func BenchmarkServingAgainstNaive(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as `signet serve` sets it
	const callers = 256
	in := apitest.NewDurable(b)
	limiter, err := access.NewLimiter(access.LimiterConfig{})
	require.NoError(b, err)
	ours := api.Config{
		Authority: in.Authority, Verifier: in.Registrations, Realms: in.Realms, Basic: in.Basic,
		Operations: in.Operations, Tokens: in.Tokens, Limiter: limiter, Metrics: prometheus.NewRegistry(),
	}
	setup := driverSetup{Username: "shop", Password: in.Login(b, pgtest.Alpha, "shop", access.PAIntegration, "APP")}
	setup.phones(b, in, 2*callers)
	plain := ours
	plain.Metrics = prometheus.NewRegistry()
	plain.Verifier = newNaive(b, in, setup.Phones[callers:])
	b.Run("signature", func(b *testing.B) {
		apitest.Duel{
			Ways: []apitest.Way{
				{Name: wayNaive, Addr: serveFor(b, plain), Kind: "signature"}, {Name: "durable", Addr: serveFor(b, ours), Kind: "signature"},
			},
			Callers: callers, Setup: setup,
		}.Run(b)
	})
}

// wayNaive takes the second half of the phones.
const wayNaive = "naive"

// naive verifies with keys that are ready, in a transaction of its own.
type naive struct {
	in     *apitest.Installation
	keys   map[string]*signature.Keys
	secret []byte
}

func newNaive(b *testing.B, in *apitest.Installation, phones []json.RawMessage) *naive {
	n := &naive{in: in, keys: map[string]*signature.Keys{}, secret: in.Versions["alpha/APP"].Secret.Reveal()}
	for _, raw := range phones {
		var s struct{ ActivationID, DevicePrivateKey, ServerPublicKey string }
		require.NoError(b, json.Unmarshal(raw, &s))
		scalar, err := signature.ParseBase64(s.DevicePrivateKey)
		require.NoError(b, err)
		private, err := signature.ParsePrivateKey(scalar)
		require.NoError(b, err)
		point, err := signature.ParseBase64(s.ServerPublicKey)
		require.NoError(b, err)
		public, err := signature.ParsePublicKey(point)
		require.NoError(b, err)
		z, err := private.ECDH(public)
		require.NoError(b, err)
		n.keys[s.ActivationID] = signature.DeriveKeys(signature.MasterSecret(z))
	}
	return n
}

func (n *naive) Verify(ctx context.Context, t tenant.ID, r registration.VerifyRequest) (v registration.Verdict, err error) {
	err = pgx.BeginFunc(ctx, n.in.DB, func(tx pgx.Tx) error {
		var (
			ctr     []byte
			counter int64
			user    string
		)
		if err := tx.QueryRow(ctx, `select ctr_data, counter, user_id from registration
			where tenant_id = $1 and id = $2 for update`, t.String(), r.Header.ActivationID).Scan(&ctr, &counter, &user); err != nil {
			return err
		}
		m, ok := n.keys[r.Header.ActivationID].Verify(&r.Header, signature.Request{
			Method: r.Method, URIID: r.URIID, Body: r.Body, Secret: n.secret,
		}, signature.Counter(ctr), signature.DefaultLookAhead)
		if !ok {
			return errors.New("no match")
		}
		if _, err := tx.Exec(ctx, `update registration set ctr_data = $3, counter = $4, failed_attempts = 0, failed_possession = 0,
			version = $5, revision = revision + 1, last_used_at = now() where tenant_id = $1 and id = $2`,
			t.String(), r.Header.ActivationID, m.Next[:], counter+int64(m.Offset)+1, r.Header.Version.String()); err != nil {
			return err
		}
		v = registration.Verdict{
			Valid: true, ID: r.Header.ActivationID, Status: registration.StateActive, Factors: r.Header.Factors,
			Judged: true, UserID: user, App: "APP", Roles: []string{"ROLE"}, RemainingAttempts: 5,
		}
		return n.in.Audit.RecordTx(ctx, tx, audit.Event{
			Tenant: t, Action: "registration.verify", Actor: r.Actor, Subject: r.Header.ActivationID, UserID: user, AppID: "APP", Outcome: "signature_ok",
			Detail: map[string]any{"type": "POSSESSION_KNOWLEDGE", "version": r.Header.Version.String(), "method": r.Method, "uriId": r.URIID, "status": "ACTIVE"},
		})
	})
	return v, err
}
