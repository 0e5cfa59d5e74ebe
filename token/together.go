package token

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// spend is a nonce to keep, of a header whose digest was right. Those that come at
// the same time are kept by one commit, each by itself: one that is spent already,
// or whose token or registration is not alive any more, fails alone.
type spend struct {
	key
	registration uuid.UUID
	nonce        [16]byte
	expires      time.Time
	event        audit.Event // one that audit.Check has passed
}

// spent tells whether the nonce was kept, with the registration's flags.
type spent struct {
	won   bool
	flags []string
}

// spendTogether is the Flush of the group.
func (k *Keeper) spendTogether(ctx context.Context, all []*spend) ([]spent, error) {
	out := make([]spent, len(all))
	at := k.clock()
	parts := split(all, at)
	if err := k.spendParts(ctx, parts, at, out); err != nil {
		return nil, pg.Unavailable(err)
	}
	return out, nil
}

func (k *Keeper) spendParts(ctx context.Context, parts []*part, at time.Time, out []spent) error {
	if len(parts) == 1 {
		sql, args, err := parts[0].statement(k.audit, at)
		if err != nil {
			return err
		}
		rows, err := k.db.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		return parts[0].read(rows, out)
	}
	var b pgx.Batch
	for _, p := range parts {
		sql, args, err := p.statement(k.audit, at)
		if err != nil {
			return err
		}
		b.Queue(sql, args...).Query(func(rows pgx.Rows) error { return p.read(rows, out) })
	}
	return k.db.SendBatch(ctx, &b).Close()
}

// alone reports whether one item may be why a batch failed: its data were refused,
// or another node held nonces of it in another order.
func alone(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code[:2] == "22" || e.Code[:2] == "23" || e.Code == "40P01")
}

// part is nonces of one tenant in columns, in the order of their keys: two nodes
// that keep the same ones wait for each other, and not in a circle.
type part struct {
	tenant       tenant.ID
	index        []int // of the items in the batch
	only         *spend
	id           []pgtype.UUID
	registration []pgtype.UUID
	nonce        [][]byte
	expires      []time.Time
	pack         *audit.Pack
}

// split sorts items by tenant, almost always one, and by key, and leaves out the
// second of equal ones, which has lost.
func split(all []*spend, at time.Time) []*part {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := all[a], all[b]
		if c := bytes.Compare(x.id[:], y.id[:]); c != 0 {
			return c
		}
		if c := bytes.Compare(x.nonce[:], y.nonce[:]); c != 0 {
			return c
		}
		return a - b
	})
	var parts []*part
	for n, i := range order {
		s := all[i]
		if n > 0 { // a token's id is of one tenant
			if last := all[order[n-1]]; last.id == s.id && last.nonce == s.nonce && last.tenant == s.tenant {
				continue
			}
		}
		k := slices.IndexFunc(parts, func(p *part) bool { return p.tenant == s.tenant })
		if k < 0 {
			k, parts = len(parts), append(parts, newPart(s.tenant, at, len(all)-n))
		}
		parts[k].add(i, s)
	}
	return parts
}

func newPart(t tenant.ID, at time.Time, n int) *part {
	return &part{
		tenant: t, index: make([]int, 0, n), id: make([]pgtype.UUID, 0, n), registration: make([]pgtype.UUID, 0, n),
		nonce: make([][]byte, 0, n), expires: make([]time.Time, 0, n), pack: audit.NewPack(t, at, n),
	}
}

func (p *part) add(i int, s *spend) {
	p.index = append(p.index, i)
	p.only = s
	p.id = append(p.id, pgtype.UUID{Bytes: s.id, Valid: true})
	p.registration = append(p.registration, pgtype.UUID{Bytes: s.registration, Valid: true})
	p.nonce = append(p.nonce, s.nonce[:])
	p.expires = append(p.expires, s.expires)
	p.pack.Add(&s.event)
}

// statement is what keeps the part. One alone is a row of its own in the audit log,
// and cheaper without arrays.
func (p *part) statement(log *audit.Log, at time.Time) (string, []any, error) {
	if len(p.index) == 1 {
		p.only.event.At = at
		event, err := log.Args(p.only.event)
		return sqlAccept, append([]any{p.tenant.String(), p.id[0], p.registration[0], p.nonce[0], p.expires[0]}, event...), err
	}
	return sqlAcceptMany, append([]any{p.tenant.String(), p.id, p.registration, p.nonce, p.expires}, p.pack.Args()...), nil
}

// read notes which nonces the statement kept.
func (p *part) read(rows pgx.Rows, out []spent) error {
	var (
		n     int64
		flags []string
	)
	_, err := pgx.ForEachRow(rows, []any{&n, &flags}, func() error {
		out[p.index[n-1]] = spent{won: true, flags: flags}
		flags = nil
		return nil
	})
	return err
}
