package registration

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// advanceBatch times the most that one may be advanced by is a second of hashing.
const advanceBatch = 500

// resyncLookAhead is what a phone is told of a registration that was advanced: it
// follows as far as the protocol allows (64), instead of the usual 20.
const resyncLookAhead = 64

const (
	// Also what is BLOCKED: it may be unblocked later.
	sqlAdvancing = `select id, ctr_data from registration
where tenant_id = $1 and id > $2 and ctr_data is not null and state <> 'REMOVED'
order by id limit $3 for no key update`

	sqlAdvance = `update registration r set ctr_data = g.ctr_data, counter = r.counter + $4, advanced_to = r.counter + $4, revision = r.revision + 1
from unnest($2::uuid[], $3::bytea[]) as g(id, ctr_data)
where r.tenant_id = $1 and r.id = g.id`
)

// Advance moves the counters of up to 500 registrations of t, those behind after,
// on by n as if n signatures had passed; last is the last of them, and more says
// that there may be others. It is a rollback.Step: signatures that were accepted
// before the database was set back are behind the counter then. A phone whose own
// counter is behind the new one by no more than 64 follows with its next status
// request; one that is further behind, or ahead by more than the look-ahead, has to
// be activated anew.
func Advance(ctx context.Context, tx pgx.Tx, t tenant.ID, n int, after uuid.UUID) (last uuid.UUID, more bool, err error) {
	rows, err := tx.Query(ctx, sqlAdvancing, t.String(), after, advanceBatch)
	if err != nil {
		return after, false, pg.Unavailable(err)
	}
	var (
		id   uuid.UUID
		raw  []byte
		ids  []uuid.UUID
		ctrs [][]byte
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &raw}, func() error {
		var ctr signature.Counter
		copy(ctr[:], raw)
		for range n {
			ctr = ctr.Next()
		}
		ids, ctrs = append(ids, id), append(ctrs, ctr[:])
		return nil
	}); err != nil {
		return after, false, pg.Unavailable(err)
	}
	if len(ids) == 0 {
		return after, false, nil
	}
	if _, err := tx.Exec(ctx, sqlAdvance, t.String(), ids, ctrs, n); err != nil {
		return after, false, pg.Unavailable(err)
	}
	return ids[len(ids)-1], len(ids) == advanceBatch, nil
}

// announced is the look-ahead that a phone is told of.
func (h *hot) announced() byte {
	if h.advancedTo != nil && h.counter <= *h.advancedTo {
		return resyncLookAhead
	}
	return lookAhead
}
