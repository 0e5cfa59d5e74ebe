package rollback

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// Hold is a step back of one tenant.
type Hold struct {
	Tenant          tenant.ID
	DetectedAt      time.Time
	Node            string // that found out
	Expected, Found int64
	Advance         int       // 0 until a release was begun
	ReleasedAt      time.Time // zero: held
}

// Mark is a node's row.
type Mark struct {
	Node     string
	Seq      int64
	BeatenAt time.Time
}

const listed = 1000

// Status lists the latest holds and marks.
func Status(ctx context.Context, db DB) ([]Hold, []Mark, error) {
	rows, err := db.Query(ctx, sqlList, listed)
	if err != nil {
		return nil, nil, fmt.Errorf("rollback: status: %w", pg.Unavailable(err))
	}
	held, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (h Hold, err error) {
		var name string
		var released *time.Time
		err = r.Scan(&name, &h.DetectedAt, &h.Node, &h.Expected, &h.Found, &h.Advance, &released)
		if released != nil {
			h.ReleasedAt = *released
		}
		if err == nil {
			h.Tenant, err = tenant.Parse(name)
		}
		return h, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("rollback: status: %w", pg.Unavailable(err))
	}
	rows, err = db.Query(ctx, sqlMarks, listed)
	if err != nil {
		return nil, nil, fmt.Errorf("rollback: status: %w", pg.Unavailable(err))
	}
	marks, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Mark])
	if err != nil {
		return nil, nil, fmt.Errorf("rollback: status: %w", pg.Unavailable(err))
	}
	return held, marks, nil
}
