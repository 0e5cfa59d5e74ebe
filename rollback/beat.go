package rollback

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// beat counts the mark up, in the database and then in the file, and reads who is
// held. One caller at a time.
func (g *Guard) beat(ctx context.Context, db DB, log *audit.Log) error {
	if f := g.pending(); f == nil {
		if err := g.count(ctx, db); err != nil {
			return err
		}
	}
	if f := g.pending(); f != nil {
		if err := g.store(ctx, db, log, f); err != nil {
			return fmt.Errorf("hold: %w", err)
		}
	}
	return g.read(ctx, db)
}

func (g *Guard) pending() *finding {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.found
}

// count is the beat itself.
func (g *Guard) count(ctx context.Context, db DB) error {
	sql, args := sqlBeat, []any{g.mark.Node, g.mark.Seq}
	if g.mark.Seq == 0 {
		sql, args = sqlFirst, args[:1]
	}
	var (
		seq *int64
		at  time.Time
	)
	err := db.QueryRow(ctx, sql, args...).Scan(&seq, &at)
	switch {
	case pg.IsUndefinedTable(err):
		g.report(&finding{g.mark.Seq, 0, "a beat"})
		return pg.Unavailable(err)
	case err != nil:
		return pg.Unavailable(err)
	case seq == nil:
		g.report(&finding{g.mark.Seq, 0, "a beat"})
		return nil
	case *seq < 0:
		g.report(&finding{g.mark.Seq, -*seq, "a beat"})
		return nil
	}
	g.keep(*seq, at)
	return nil
}

// keep notes what the database has stored. A file that can not be written leaves
// the guard blind to steps back since its last write, after a restart: that is
// told, and does not end the service.
func (g *Guard) keep(seq int64, at time.Time) {
	g.mark.Seq, g.mark.At = seq, at
	g.seen.Store(seq)
	if err := g.file.write(g.mark); err != nil {
		g.metrics.failures.Inc()
		g.log.Error("rollback: the mark can not be written", "error", err)
		return
	}
	g.metrics.written.SetToCurrentTime()
}

// store writes the hold of every tenant and its event, and takes the mark beyond
// what was seen, in one transaction: who is cut off finds the same step back again.
// A node that comes late, days perhaps, finds what another has stored already.
func (g *Guard) store(ctx context.Context, db DB, log *audit.Log, f *finding) error {
	var (
		seq int64
		at  time.Time
	)
	err := pg.InTx(ctx, db, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, sqlJump, g.mark.Node, g.mark.Seq+1).Scan(&seq, &at); err != nil {
			return err
		}
		var explained bool
		if err := tx.QueryRow(ctx, sqlExplained, g.mark.At).Scan(&explained); err != nil || explained {
			return err
		}
		return g.holdAll(ctx, tx, log, f)
	})
	switch {
	case errors.Is(err, errNobody):
		return nil
	case err != nil:
		return pg.Unavailable(err)
	}
	g.keep(seq, at)
	if err := g.read(ctx, db); err != nil { // first: between the two somebody must hold
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.found = nil
	h := *g.holds.Load()
	h.all = false
	g.holds.Store(&h)
	g.metrics.held.Set(float64(h.count()))
	return nil
}

// errNobody is a database without tenants: one that is being restored at this
// moment, table after table. This node goes on to hold everybody by itself.
var errNobody = errors.New("rollback: no tenants yet")

func (g *Guard) holdAll(ctx context.Context, tx pgx.Tx, log *audit.Log, f *finding) error {
	rows, err := tx.Query(ctx, sqlHoldAll, g.mark.Node, f.expected, f.found)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return errNobody
	}
	for _, name := range names {
		t, err := tenant.Parse(name)
		if err != nil {
			return err
		}
		if err := log.RecordTx(ctx, tx, audit.Event{
			Tenant: t, Action: "rollback.hold", Actor: "system", Subject: name, Outcome: "held",
			Detail: map[string]any{"node": g.mark.Node.String(), "expected": f.expected, "found": f.found, "seenBy": f.what},
		}); err != nil {
			return err
		}
	}
	return nil
}

// read learns who is held.
func (g *Guard) read(ctx context.Context, db DB) error {
	rows, err := db.Query(ctx, sqlHolds, remember)
	if err != nil {
		return pg.Unavailable(err)
	}
	next := map[tenant.ID]hold{}
	var (
		name string
		h    hold
	)
	if _, err := pgx.ForEachRow(rows, []any{&name, &h.at, &h.open}, func() error {
		t, err := tenant.Parse(name)
		next[t] = h
		return err
	}); err != nil {
		return pg.Unavailable(err)
	}
	g.publish(next)
	return nil
}

func (g *Guard) publish(next map[tenant.ID]hold) {
	g.mu.Lock()
	before := g.holds.Load()
	after := &holds{all: before.all, tenant: next}
	for _, h := range next {
		if h.open {
			after.open++
		}
	}
	g.holds.Store(after)
	g.metrics.held.Set(float64(after.count()))
	told := g.onHold
	g.mu.Unlock()
	for t, h := range next {
		// Also one that was held and released between two beats: its rows were moved.
		if !before.all && h.at.After(before.tenant[t].at) {
			for _, fn := range told {
				fn(&t)
			}
		}
	}
}

// count is the metric: the node's own hold counts as one more.
func (h *holds) count() int {
	if h.all {
		return h.open + 1
	}
	return h.open
}
