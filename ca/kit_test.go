package ca_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/lint"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

var (
	alpha, beta = pgtest.Alpha, pgtest.Beta
	issuerRef   = hsm.Ref{Tenant: "_system", Role: hsm.RoleIssuer, Name: "issuer"}
)

const client = "01J0000000000000000000000A"

// bench is one installation: database, token, issuer.
type bench struct {
	db    *pgxpool.Pool
	token *hsm.Token
	chain [][]byte
}

// bundle returns an installation and one authority on it.
func bundle(tb testing.TB) (*bench, *ca.Authority) {
	tb.Helper()
	b := &bench{db: pgtest.New(tb), token: softhsmtest.New(tb)}
	b.chain = issuerChain(tb, b.token)
	return b, b.authority(tb, nil)
}

func (b *bench) config(tb testing.TB) ca.Config {
	tb.Helper()
	log, err := audit.New(audit.Config{DB: b.db})
	require.NoError(tb, err)
	return ca.Config{DB: b.db, Token: b.token, Audit: log, IssuerChain: b.chain, IssuerKey: issuerRef}
}

func (b *bench) authority(tb testing.TB, change func(*ca.Config)) *ca.Authority {
	tb.Helper()
	c := b.config(tb)
	if change != nil {
		change(&c)
	}
	a, err := ca.New(tb.Context(), c)
	require.NoError(tb, err)
	return a
}

// issuerChain makes the issuer's key in the HSM under a root in software.
func issuerChain(tb testing.TB, token *hsm.Token) [][]byte {
	tb.Helper()
	return issuerChainOf(tb, token, issuerRef)
}

func issuerChainOf(tb testing.TB, token *hsm.Token, ref hsm.Ref) [][]byte {
	tb.Helper()
	if _, err := token.Lookup(tb.Context(), ref); errors.Is(err, hsm.ErrKeyNotFound) {
		_, err = token.Generate(tb.Context(), ref, hsm.P256, [16]byte{byte(ref.Generation)})
		require.NoError(tb, err)
	}
	issuerKey, err := token.Signer(tb.Context(), ref)
	require.NoError(tb, err)
	rootKey := softKey(tb)
	now := time.Now().Add(-time.Hour)
	root := certify(tb, rootKey, issuance.Order{Profile: compile(tb, issuance.Root()), Request: request(tb, rootKey), Subject: issuance.Subject{CommonName: "Test Root"}, Now: now})
	anchor, err := issuance.NewAuthority(root)
	require.NoError(tb, err)
	issuer := certify(tb, rootKey, issuance.Order{
		Issuer: anchor, Profile: compile(tb, issuance.Issuer()), Request: request(tb, issuerKey), Subject: issuance.Subject{CommonName: "Test Issuer"}, Now: now,
	})
	return [][]byte{issuer, root}
}

func certify(tb testing.TB, key crypto.Signer, o issuance.Order) []byte {
	tb.Helper()
	var err error
	o.Serial, err = issuance.NewSerial(rand.Reader)
	require.NoError(tb, err)
	d, err := issuance.Prepare(o)
	require.NoError(tb, err)
	der, err := d.Sign(key)
	require.NoError(tb, err)
	return der
}

func compile(tb testing.TB, p issuance.Profile) *issuance.Template {
	tb.Helper()
	linter, err := lint.New(lint.Config{})
	require.NoError(tb, err)
	t, err := p.Compile(issuance.Checks{Linter: linter})
	require.NoError(tb, err)
	return t
}

func softKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	return k
}

func request(tb testing.TB, key crypto.Signer) *issuance.Request {
	tb.Helper()
	r, err := issuance.ParseRequest(csr(tb, key))
	require.NoError(tb, err)
	return r
}

func csr(tb testing.TB, key crypto.Signer) []byte {
	tb.Helper()
	der, err := issuance.NewRequest(key)
	require.NoError(tb, err)
	return der
}

func order(tb testing.TB) ca.IssueRequest {
	tb.Helper()
	return ca.IssueRequest{CSR: csr(tb, softKey(tb)), User: "jane", Client: client, Actor: "test"}
}

// count runs a query that answers one number.
func (b *bench) count(tb testing.TB, sql string, args ...any) int {
	tb.Helper()
	var n int
	require.NoError(tb, b.db.QueryRow(context.WithoutCancel(tb.Context()), sql, args...).Scan(&n))
	return n
}

// unsettled counts what the reconciler still has to do.
func (b *bench) unsettled(tb testing.TB) int {
	tb.Helper()
	return b.count(tb, `select (select count(*) from ca_certificate where status = 'REQUESTED')
		+ (select count(*) from ca_signer where state = 'PENDING' or state in ('FAILED', 'DELETED') and key_destroyed_at is null)`)
}

// expire ends all leases, and makes everything due that is queued.
func (b *bench) expire(tb testing.TB) {
	tb.Helper()
	for _, sql := range []string{
		`update ca_certificate set lease_until = now() where status = 'REQUESTED'`,
		`update ca_signer set lease_until = now() where lease_until is not null`,
	} {
		_, err := b.db.Exec(tb.Context(), sql)
		require.NoError(tb, err)
	}
}

// settle reconciles until nothing is left to do, with all leases at their end.
func (b *bench) settle(tb testing.TB, a *ca.Authority) {
	tb.Helper()
	for range 50 {
		if b.unsettled(tb) == 0 {
			return
		}
		b.expire(tb)
		_, err := a.Reconcile(tb.Context())
		require.NoError(tb, err)
	}
	require.Zero(tb, b.unsettled(tb))
}

func parse(tb testing.TB, der []byte) *x509.Certificate {
	tb.Helper()
	c, err := x509.ParseCertificate(der)
	require.NoError(tb, err)
	return c
}

// signerKeys lists the labels of all signer keys in the HSM.
func (b *bench) signerKeys(tb testing.TB) []string {
	tb.Helper()
	keys, err := b.token.Keys(tb.Context(), func(r hsm.Ref) bool { return r.Role == hsm.RoleSigner })
	require.NoError(tb, err)
	var labels []string
	for _, k := range keys {
		labels = append(labels, k.Ref.String())
	}
	return labels
}

// brokenDB fails the statements that fail says.
type brokenDB struct {
	*pgxpool.Pool
	fail func(sql string) error
	n    atomic.Int32
}

var errCut = errors.New("connection cut")

func (d *brokenDB) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := d.fail(sql); err != nil {
		d.n.Add(1)
		return pgconn.CommandTag{}, err
	}
	return d.Pool.Exec(ctx, sql, args...)
}

// Query fails those statements that change something: what is stored together.
func (d *brokenDB) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if strings.HasPrefix(sql, "with given as") {
		if err := d.fail(sql); err != nil {
			d.n.Add(1)
			return nil, err
		}
	}
	return d.Pool.Query(ctx, sql, args...)
}

// Begin hands out transactions whose statements and commit fail likewise; the
// commit is asked for as "commit", and "committed" cuts the line after it.
func (d *brokenDB) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := d.fail("begin"); err != nil {
		return nil, err
	}
	tx, err := d.Pool.Begin(ctx)
	return &brokenTx{Tx: tx, db: d}, err
}

type brokenTx struct {
	pgx.Tx
	db *brokenDB
}

func (t *brokenTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := t.db.fail(sql); err != nil {
		t.db.n.Add(1)
		return pgconn.CommandTag{}, err
	}
	return t.Tx.Exec(ctx, sql, args...)
}

func (t *brokenTx) Commit(ctx context.Context) error {
	if err := t.Tx.Commit(ctx); err != nil {
		return err
	}
	return t.db.fail("committed")
}
