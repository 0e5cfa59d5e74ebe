package revocation_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/ca/issuance"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/tenant"
)

func newSerial(tb testing.TB) issuance.Serial {
	tb.Helper()
	s, err := issuance.NewSerial(rand.Reader)
	require.NoError(tb, err)
	return s
}

func newRecord(tb testing.TB, issuer revocation.KeyID) revocation.Record {
	tb.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	return revocation.Record{
		Tenant: pgtest.Alpha, Issuer: issuer[:], Shards: 4, Serial: newSerial(tb), CertRef: strings.Repeat("0", 26),
		Reason: revocation.KeyCompromise, At: now, Since: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), Actor: "test",
	}
}

func record(ctx context.Context, db *pgxpool.Pool, r ...revocation.Record) error {
	return pg.InTx(ctx, db, func(tx pgx.Tx) error { return revocation.RecordTx(ctx, tx, r...) })
}

func count(tb testing.TB, db *pgxpool.Pool, sql string, args ...any) (n int) {
	tb.Helper()
	require.NoError(tb, db.QueryRow(tb.Context(), sql, args...).Scan(&n))
	return n
}

func TestRecordKeepsTheFirstTombstone(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	issuer := revocation.KeyID{1}
	first, other := newRecord(t, issuer), newRecord(t, issuer)
	require.NoError(t, record(t.Context(), db, first, other))
	again := first
	again.Reason, again.Actor = revocation.Superseded, "second"
	require.NoError(t, record(t.Context(), db, again))
	again.Tenant = pgtest.Beta // the serial is the issuer's, whoever's the certificate
	require.NoError(t, record(t.Context(), db, again))

	var got revocation.Record
	var id, state string
	var sum []byte
	var shard int
	require.NoError(t, db.QueryRow(t.Context(), `select tenant_id, shard, cert_ref, sha256, reason, revoked_at, invalid_since, not_after, actor, state
		from ca_revocation where issuer_key_id = $1 and serial = $2`, issuer[:], first.Serial[:]).
		Scan(&id, &shard, &got.CertRef, &sum, &got.Reason, &got.At, &got.Since, &got.NotAfter, &got.Actor, &state))
	require.Equal(t, revocation.Shard(first.Serial, 4), shard)
	require.Equal(t, "PENDING", state)
	got.Tenant, got.Issuer, got.Shards, got.Serial, got.SHA256 = tenant.MustParse(id), issuer[:], 4, first.Serial, [32]byte(sum)
	got.At, got.Since, got.NotAfter = got.At.UTC(), got.Since.UTC(), got.NotAfter.UTC()
	require.Equal(t, first, got)
	require.Equal(t, 2, count(t, db, `select count(*) from ca_revocation`))
	require.Equal(t, 1, count(t, db, `select count(*) from ca_crl where issuer_key_id = $1 and shard = $2 and number = 0 and der is null`, issuer[:], shard))
}

func TestRecordRollsBackWithItsTransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	tx, err := db.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, revocation.RecordTx(t.Context(), tx, newRecord(t, revocation.KeyID{1})))
	require.NoError(t, tx.Rollback(t.Context()))
	require.Zero(t, count(t, db, `select count(*) from ca_revocation`))
	require.NoError(t, record(t.Context(), db))
}

func TestRecordRefuses(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for name, c := range map[string]struct {
		change func(*revocation.Record)
		want   error
	}{
		"no tenant":       {func(r *revocation.Record) { r.Tenant = tenant.ID{} }, revocation.ErrRecord},
		"short issuer":    {func(r *revocation.Record) { r.Issuer = r.Issuer[1:] }, revocation.ErrRecord},
		"no shards":       {func(r *revocation.Record) { r.Shards = 0 }, revocation.ErrRecord},
		"too many shards": {func(r *revocation.Record) { r.Shards = revocation.MaxShards + 1 }, revocation.ErrRecord},
		"no serial":       {func(r *revocation.Record) { r.Serial = issuance.Serial{} }, revocation.ErrRecord},
		"no reference":    {func(r *revocation.Record) { r.CertRef = "" }, revocation.ErrRecord},
		"no time":         {func(r *revocation.Record) { r.At = time.Time{} }, revocation.ErrRecord},
		"no end":          {func(r *revocation.Record) { r.NotAfter = time.Time{} }, revocation.ErrRecord},
		"lost later":      {func(r *revocation.Record) { r.Since = r.At.Add(time.Second) }, revocation.ErrRecord},
		"hold":            {func(r *revocation.Record) { r.Reason = 6 }, revocation.ErrReason},
		"removal":         {func(r *revocation.Record) { r.Reason = 8 }, revocation.ErrReason},
	} {
		r := newRecord(t, revocation.KeyID{1})
		c.change(&r)
		require.ErrorIs(t, record(t.Context(), db, r), c.want, name)
	}
	require.Zero(t, count(t, db, `select count(*) from ca_revocation`))

	tx, err := db.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(t.Context()))
	require.ErrorIs(t, revocation.RecordTx(t.Context(), tx, newRecord(t, revocation.KeyID{1})), fault.ErrUnavailable)
}

func TestReasonNamesAreOneToOne(t *testing.T) {
	t.Parallel()
	for v := range 256 {
		r := revocation.Reason(v)
		back, err := revocation.ParseReason(r.String())
		if r.Valid() {
			require.NoError(t, err)
			require.Equal(t, r, back)
		} else {
			require.ErrorIs(t, err, revocation.ErrReason)
		}
	}
	require.Equal(t, "KEY_COMPROMISE", revocation.KeyCompromise.String())
}
