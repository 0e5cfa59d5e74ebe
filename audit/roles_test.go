package audit_test

import (
	"errors"
	"net/url"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/softhsm/softhsmtest"
)

// login makes a user in the role and connects as it.
func login(t *testing.T, owner *pgxpool.Pool, rawURL, name, role string) *pgxpool.Pool {
	t.Helper()
	_, err := owner.Exec(t.Context(), "drop role if exists "+name+"; create role "+name+" login password 'p' in role "+role)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = owner.Exec(t.Context(), "drop role "+name) })
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	u.User = url.UserPassword(name, "p")
	pool, err := pg.Open(t.Context(), u.String(), pg.Options{MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// Not parallel: roles belong to the whole server.
func TestTheApplicationsRoleCanOnlyAppend(t *testing.T) {
	ctx, rawURL := t.Context(), pgtest.URL(t)
	owner, err := pg.Open(ctx, rawURL, pg.Options{MaxConns: 2})
	require.NoError(t, err)
	defer owner.Close()
	script, err := os.ReadFile("../docs/sql/roles.sql")
	require.NoError(t, err)
	for range 2 {
		_, err = owner.Exec(ctx, string(script))
		require.NoError(t, err)
	}
	app := login(t, owner, rawURL, "signet_test_app", "signet_app")
	auditor := login(t, owner, rawURL, "signet_test_auditor", "signet_auditor")
	token := softhsmtest.New(t)
	_, err = token.Generate(ctx, audit.KeyRef(), hsm.P256, [16]byte{})
	require.NoError(t, err)

	// The service's own work needs no more rights than these.
	l := newLog(t, app)
	require.NoError(t, pgx.BeginFunc(ctx, app, func(tx pgx.Tx) error {
		return l.RecordTx(ctx, tx, audit.Event{Tenant: alpha, Action: "a", Outcome: "ok"})
	}))
	s, err := audit.NewSealer(audit.SealerConfig{DB: app, Keys: token})
	require.NoError(t, err)
	seal(t, s, 1)
	r, err := audit.Verifier{DB: auditor, Keys: token}.Verify(ctx, alpha)
	require.NoError(t, err)
	require.True(t, r.OK())
	require.EqualValues(t, 1, r.Signed.Seq)
	require.NoError(t, pg.Check(ctx, app))

	denied := func(db *pgxpool.Pool, sql string) {
		t.Helper()
		_, err := db.Exec(ctx, sql)
		var e *pgconn.PgError
		require.True(t, errors.As(err, &e), "%s was allowed", sql)
		require.Equal(t, "42501", e.Code, sql)
	}
	for _, table := range []string{"audit_event", "audit_pack", "audit_chain", "audit_checkpoint"} {
		_, _ = app.Exec(ctx, "grant update, delete on "+table+" to signet_app") // without effect, PostgreSQL only warns
		for _, sql := range []string{
			"update " + table + " set tenant_id = 'beta'", "delete from " + table, "truncate " + table, "drop table " + table,
			"alter table " + table + " add column x int",
			"create trigger t before insert on " + table + " execute function suppress_redundant_updates_trigger()",
		} {
			denied(app, sql)
			denied(auditor, sql)
		}
		denied(auditor, "insert into "+table+" select * from "+table)
	}
	denied(app, "delete from audit_head")
	denied(app, "create table mine (x int)")
	denied(app, "set role signet_auditor")
	denied(auditor, "select * from app")
	r, err = audit.Verifier{DB: auditor, Keys: token}.Verify(ctx, alpha)
	require.NoError(t, err)
	require.True(t, r.OK())
}
