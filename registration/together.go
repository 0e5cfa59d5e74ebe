package registration

import (
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
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// change is a verdict to store that leaves the registration ACTIVE. Those that
// come at the same time are stored by one commit, each by its own
// compare-and-swap, with its own event.
type change struct {
	next    hot // what the row is afterwards; its revision is one above the one that was read
	read    signature.Counter
	version string      // of the protocol; "" leaves what is stored
	event   audit.Event // one that audit.Check has passed
}

// storeTogether is the Flush of the group: it answers for each change whether it
// won. Of two changes of one registration the first is tried and the second has
// lost, and will find the winner's row in the cache.
func (r *Registrar) storeTogether(ctx context.Context, changes []*change) ([]bool, error) {
	won := make([]bool, len(changes))
	at := r.clock()
	parts := split(changes, at)
	if err := r.storeParts(ctx, parts, at, won); err != nil {
		return nil, pg.Unavailable(err)
	}
	// Before anybody is answered, so that who lost in this very batch reads on
	// from here and not from the database.
	for _, p := range parts {
		for _, i := range p.index {
			if h := &changes[i].next; won[i] {
				r.cache.moved(h)
			} else {
				r.cache.drop(h.id, h.revision-1)
			}
		}
	}
	return won, nil
}

// split sorts changes by tenant, almost always one, and leaves out the second of
// each registration.
func split(changes []*change, at time.Time) []*part {
	var parts []*part
	seen := make(map[uuid.UUID]struct{}, len(changes)) // unique over all tenants
	for i, c := range changes {
		if _, ok := seen[c.next.id]; ok {
			continue
		}
		seen[c.next.id] = struct{}{}
		t := c.next.tenant
		k := slices.IndexFunc(parts, func(p *part) bool { return p.tenant == t })
		if k < 0 {
			k = len(parts)
			parts = append(parts, newPart(t, at, len(changes)-i))
		}
		parts[k].add(i, c)
	}
	return parts
}

// storeParts runs the statement of each part, all in one round trip and one commit.
func (r *Registrar) storeParts(ctx context.Context, parts []*part, at time.Time, won []bool) error {
	if len(parts) == 1 {
		p := parts[0]
		sql, args, err := p.statement(r.audit, at)
		if err != nil {
			return err
		}
		rows, err := r.db.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		return p.read(rows, won)
	}
	var b pgx.Batch
	for _, p := range parts {
		sql, args, err := p.statement(r.audit, at)
		if err != nil {
			return err
		}
		b.Queue(sql, args...).Query(func(rows pgx.Rows) error { return p.read(rows, won) })
	}
	return r.db.SendBatch(ctx, &b).Close()
}

// alone reports whether one bad row may be why a batch failed: the server
// refused its data. Everything else would fail again.
func alone(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code[:2] == "22" || e.Code[:2] == "23")
}

// part is changes of one tenant, in columns: that is how arrays go to the database.
type part struct {
	tenant           tenant.ID
	index            []int // of the changes in the batch
	only             *change
	id               []pgtype.UUID
	revision         []int64
	ctr, ctrRead     [][]byte
	counter          []int64
	failed           []int32
	failedPossession []int32
	version          []string
	pack             *audit.Pack
}

func newPart(t tenant.ID, at time.Time, n int) *part {
	return &part{
		tenant: t, index: make([]int, 0, n), id: make([]pgtype.UUID, 0, n), revision: make([]int64, 0, n),
		ctr: make([][]byte, 0, n), ctrRead: make([][]byte, 0, n), counter: make([]int64, 0, n), failed: make([]int32, 0, n),
		failedPossession: make([]int32, 0, n), version: make([]string, 0, n), pack: audit.NewPack(t, at, n),
	}
}

func (p *part) add(i int, c *change) {
	h := &c.next
	p.index = append(p.index, i)
	p.only = c
	p.id = append(p.id, pgtype.UUID{Bytes: h.id, Valid: true})
	p.revision = append(p.revision, h.revision-1)
	p.ctr = append(p.ctr, h.ctr[:])
	p.ctrRead = append(p.ctrRead, c.read[:])
	p.counter = append(p.counter, h.counter)
	p.failed = append(p.failed, int32(h.failed)) // below max_failed_attempts, an integer of the database
	p.failedPossession = append(p.failedPossession, int32(h.failedPossession))
	p.version = append(p.version, c.version)
	p.pack.Add(&c.event)
}

// statement is what stores the part. One alone is a row of its own in the audit
// log, and cheaper without arrays.
func (p *part) statement(log *audit.Log, at time.Time) (string, []any, error) {
	if len(p.index) == 1 {
		p.only.event.At = at
		event, err := log.Args(p.only.event)
		return sqlVerdictAlone, append([]any{
			p.tenant.String(), p.id[0], p.revision[0], p.ctr[0], p.counter[0], p.failed[0], p.failedPossession[0], p.version[0], at, p.ctrRead[0],
		}, event...), err
	}
	return sqlVerdicts, append([]any{
		p.tenant.String(), p.id, p.revision, p.ctr, p.counter, p.failed, p.failedPossession, p.version, at, p.ctrRead,
	}, p.pack.Args()...), nil
}

// read notes which changes the statement made.
func (p *part) read(rows pgx.Rows, won []bool) error {
	if len(p.index) == 1 {
		rows.Close()
		won[p.index[0]] = rows.Err() == nil && rows.CommandTag().RowsAffected() == 1
		return rows.Err()
	}
	moved, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[[]int64])
	if err != nil {
		return err
	}
	if moved == nil {
		for _, i := range p.index {
			won[i] = true
		}
	}
	for _, n := range moved {
		won[p.index[n-1]] = true
	}
	return nil
}
