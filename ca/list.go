package ca

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/filter"
	"github.com/signet-hsm/signet/internal/pg"
)

// listing is a list that callers page and filter.
type listing struct {
	what    string // for errors
	columns string
	from    string // ends in a condition
	order   string
	args    []any
	fields  filter.Fields
}

// listPage returns a page and how many entries pass the filter in all. Both come
// from one moment only when nothing changes in between; a list that is read page
// by page has no better promise anyway.
func listPage[T any](ctx context.Context, db DB, l listing, p Page, scan func(pgx.CollectableRow) (T, error)) ([]T, int, error) {
	limit, offset, err := p.bounds()
	if err != nil {
		return nil, 0, err
	}
	expr, err := filter.Parse(p.Filter, l.fields)
	if err != nil {
		return nil, 0, fmt.Errorf("ca: %s: %w", l.what, err)
	}
	condition, values := expr.SQL(len(l.args) + 1)
	args := slices.Concat(l.args, values)
	query := func(sql string, more ...any) (pgx.Rows, error) {
		all := slices.Concat(args, more)
		if !expr.IsZero() { // each shape is another text: do not fill the cache with them
			all = slices.Insert(all, 0, any(pgx.QueryExecModeDescribeExec))
		}
		return db.Query(ctx, sql, all...)
	}
	rows, err := query(fmt.Sprintf("select %s from %s and %s order by %s limit $%d offset $%d",
		l.columns, l.from, condition, l.order, len(args)+1, len(args)+2), limit, offset)
	if err != nil {
		return nil, 0, fmt.Errorf("ca: %s: %w", l.what, pg.Unavailable(err))
	}
	list, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, 0, fmt.Errorf("ca: %s: %w", l.what, pg.Unavailable(err))
	}
	if len(list) < limit && (len(list) > 0 || offset == 0) {
		return list, int(offset) + len(list), nil // the last page tells how many there are
	}
	rows, err = query("select count(*) from " + l.from + " and " + condition)
	if err != nil {
		return nil, 0, fmt.Errorf("ca: count for %s: %w", l.what, pg.Unavailable(err))
	}
	total, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
	if err != nil {
		return nil, 0, fmt.Errorf("ca: count for %s: %w", l.what, pg.Unavailable(err))
	}
	return list, total, nil
}
