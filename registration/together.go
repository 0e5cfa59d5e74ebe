package registration

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/signature"
)

// change is a verdict to store that leaves the registration ACTIVE. Those that
// come at the same time are stored by one statement and one commit, each by its
// own compare-and-swap, with its own event.
type change struct {
	next    *hot // what the row is afterwards; its revision is one above the one that was read
	read    signature.Counter
	version *string
	at      time.Time
	event   []any // as audit.Log.Args made it
}

// outcome is what became of one change.
type outcome uint8

const (
	lost outcome = iota // the registration is not what it was
	won
	held // somebody else holds its row: nothing is known
)

// storeTogether is the Flush of the group: it answers for each change what became
// of it. Of two changes of one registration the first is tried and the second has
// lost, and will find the winner's row in the cache.
func (r *Registrar) storeTogether(ctx context.Context, changes []*change) ([]outcome, error) {
	out := make([]outcome, len(changes))
	s := newColumns(len(changes))
	index := make([]int, 0, len(changes)) // of changes, by the row's place in the arrays
	seen := make(map[keyID]bool, len(changes))
	for i, c := range changes {
		k := c.next.key()
		if seen[k] {
			continue
		}
		seen[k] = true
		s.add(c)
		index = append(index, i)
	}
	rows, err := r.db.Query(ctx, sqlVerdicts, s.args()...)
	if err != nil {
		return nil, pg.Unavailable(err)
	}
	var (
		n     int64
		moved bool
	)
	if _, err := pgx.ForEachRow(rows, []any{&n, &moved}, func() error {
		if moved {
			out[index[n-1]] = won
		} else {
			out[index[n-1]] = held
		}
		return nil
	}); err != nil {
		return nil, pg.Unavailable(err)
	}
	// Before anybody is answered, so that who lost in this very batch reads on
	// from here and not from the database.
	for _, i := range index {
		switch h := changes[i].next; out[i] {
		case won:
			r.rows.set(h)
		case lost:
			r.rows.drop(h.key(), h.revision-1)
		}
	}
	return out, nil
}

// alone reports whether one bad row may be why a batch failed: the server
// refused its data. Everything else would fail again.
func alone(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && (e.Code[:2] == "22" || e.Code[:2] == "23")
}

// changeColumns are changes, the way arrays go to the database.
type changeColumns struct {
	tenant           []string
	id               []pgtype.UUID
	revision         []int64
	ctr              [][]byte
	counter          []int64
	failed           []int32
	failedPossession []int32
	version          []*string
	at               []time.Time
	read             [][]byte
	events           audit.Many
}

func newColumns(n int) *changeColumns {
	s := &changeColumns{
		tenant: make([]string, 0, n), id: make([]pgtype.UUID, 0, n), revision: make([]int64, 0, n), ctr: make([][]byte, 0, n),
		counter: make([]int64, 0, n), failed: make([]int32, 0, n), failedPossession: make([]int32, 0, n),
		version: make([]*string, 0, n), at: make([]time.Time, 0, n), read: make([][]byte, 0, n),
	}
	s.events.Grow(n)
	return s
}

func (s *changeColumns) add(c *change) {
	h := c.next
	s.tenant = append(s.tenant, h.tenant.String())
	s.id = append(s.id, pgtype.UUID{Bytes: h.id, Valid: true})
	s.revision = append(s.revision, h.revision-1)
	s.ctr = append(s.ctr, h.ctr[:])
	s.counter = append(s.counter, h.counter)
	s.failed = append(s.failed, int32(h.failed)) // below max_failed_attempts, an integer of the database
	s.failedPossession = append(s.failedPossession, int32(h.failedPossession))
	s.version = append(s.version, c.version)
	s.at = append(s.at, c.at)
	s.read = append(s.read, c.read[:])
	s.events.Add(c.event)
}

func (s *changeColumns) args() []any {
	return append([]any{
		s.tenant, s.id, s.revision, s.ctr, s.counter, s.failed, s.failedPossession, s.version, s.at, s.read,
	}, s.events.Args()...)
}
