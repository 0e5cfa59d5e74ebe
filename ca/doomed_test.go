package ca_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/hsm"
)

// doomed is an authority whose process dies at a step: "sign-" is before the
// signer signs, "sign+" after; key, issuer, destroy, intent, store likewise, and
// commit with the number of the transaction.
func (b *bench) doomed(tb testing.TB, step string) *ca.Authority {
	tb.Helper()
	die := func(at string) {
		if at == step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	roles := map[hsm.Role]string{hsm.RoleSigner: "sign", hsm.RoleIssuer: "issuer"}
	a := b.authority(tb, func(c *ca.Config) {
		c.DB = &doomedDB{Pool: b.db, die: die}
		c.ReconcileEvery = 50 * time.Millisecond
	})
	a.Inject(&ca.Faults{
		Making:   func(hsm.Ref) error { die("key-"); return nil },
		Generate: func(hsm.Ref, [16]byte) error { die("key+"); return nil },
		Sign:     func(_ context.Context, r hsm.Ref) error { die(roles[r.Role] + "-"); return nil },
		Signed:   func(r hsm.Ref) { die(roles[r.Role] + "+") },
		Discard:  func(hsm.Ref) error { die("destroy-"); return nil },
		Gone:     func(hsm.Ref) { die("destroy+") },
	}, issuerRef)
	return a
}

type doomedDB struct {
	*pgxpool.Pool
	die     func(at string)
	commits atomic.Int32
}

func (d *doomedDB) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	at := stepOf(sql)
	d.die(at + "-")
	tag, err := d.Pool.Exec(ctx, sql, args...)
	d.die(at + "+")
	return tag, err
}

// stepOf names the statements of issuing.
func stepOf(sql string) string {
	switch {
	case strings.Contains(sql, "set status = 'ISSUED'"):
		return "store"
	case strings.Contains(sql, "insert into ca_certificate"):
		return "intent"
	}
	return ""
}

func (d *doomedDB) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	at := stepOf(sql)
	if at == "" {
		return d.Pool.Query(ctx, sql, args...)
	}
	d.die(at + "-")
	rows, err := d.Pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return &doomedRows{rows, func() { d.die(at + "+") }}, nil
}

// doomedRows are read to their end, and with it the statement committed, before
// they are closed.
type doomedRows struct {
	pgx.Rows
	closed func()
}

func (r *doomedRows) Close() {
	r.Rows.Close()
	r.closed()
}

func (d *doomedDB) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := d.Pool.Begin(ctx)
	return &doomedTx{tx, d}, err
}

type doomedTx struct {
	pgx.Tx
	db *doomedDB
}

func (t *doomedTx) Commit(ctx context.Context) error {
	at := fmt.Sprintf("commit%d", t.db.commits.Add(1))
	t.db.die(at + "-")
	err := t.Tx.Commit(ctx)
	t.db.die(at + "+")
	return err
}
