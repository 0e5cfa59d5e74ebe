package envelope

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// Column is a column of sealed values, as its domain describes it: all that a
// rotation has to know. Domains own the statements because they own the tables.
type Column struct {
	Table, Column string // of the values' Field

	// Page reads rows of tenant $1, in the order of a key, after the key $2 (text;
	// empty: from the start), at most $3 of them: the key as text, the Field's Row,
	// and the blob, null when there is none. Order by "table.column": a bare name
	// would mean the text in the list.
	Page string

	// Swap puts the blob $4 into the row of tenant $1 and key $2, where the blob
	// still is $3. It must leave the row's revision alone: what was read and what is
	// sealed have not changed. Empty: the values live for minutes, and are waited for.
	Swap string
}

// sealedRow is one row of a page.
type sealedRow struct {
	key, row string
	blob     []byte
}

// page reads the rows after a key.
func (r *Rotation) page(ctx context.Context, c Column, t tenant.ID, after string, limit int) ([]sealedRow, error) {
	rows, err := r.c.DB.Query(ctx, c.Page, t.String(), after, limit)
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("envelope: read %s.%s: %w", c.Table, c.Column, err))
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s sealedRow, err error) {
		return s, row.Scan(&s.key, &s.row, &s.blob)
	})
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("envelope: read %s.%s: %w", c.Table, c.Column, err))
	}
	return list, nil
}

// swap replaces blobs in one commit and returns how many were still as they had
// been read: whoever was faster has sealed with a newer key.
func (r *Rotation) swap(ctx context.Context, c Column, t tenant.ID, rows []sealedRow, blobs [][]byte) (int64, error) {
	var b pgx.Batch
	for i, row := range rows {
		b.Queue(c.Swap, t.String(), row.key, row.blob, blobs[i])
	}
	var n int64
	err := pg.InTx(ctx, r.c.DB, func(tx pgx.Tx) error {
		results := tx.SendBatch(ctx, &b)
		n = 0
		for range rows {
			tag, err := results.Exec()
			if err != nil {
				_ = results.Close()
				return err
			}
			n += tag.RowsAffected()
		}
		return results.Close()
	})
	if err != nil {
		return 0, pg.Unavailable(fmt.Errorf("envelope: store %s.%s: %w", c.Table, c.Column, err))
	}
	return n, nil
}
