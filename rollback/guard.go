package rollback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// DefaultEvery is the pause between two beats: how much of a step back may go
// unseen.
const DefaultEvery = time.Second

// remember is how long after a step back messages of before it may still claim to
// be new: twice the widest window that any caller of Fresh has.
const remember = 12 * time.Hour

// DB is what a Guard needs of a pool.
type DB interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Begin(ctx context.Context) (pgx.Tx, error)
}

var _ DB = (*pgxpool.Pool)(nil)

// Config makes a Guard. Path is required.
type Config struct {
	Path    string        // of the mark file; its folder must exist
	Every   time.Duration // between beats; 0: DefaultEvery
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Guard watches one database for one process.
type Guard struct {
	every   time.Duration
	log     *slog.Logger
	metrics *metrics
	file    *markFile

	mark  mark         // of the one that beats
	seen  atomic.Int64 // mark.Seq, for everybody
	holds atomic.Pointer[holds]

	started atomic.Bool

	mu     sync.Mutex
	found  *finding           // a step back whose hold is not stored yet
	onHold []func(*tenant.ID) // told of each tenant that becomes held
	wake   chan struct{}
}

// finding is one proof of a step back.
type finding struct {
	expected, found int64
	what            string
}

// holds is what is known of tenants; nobody changes one that was published.
type holds struct {
	all    bool // a step back was found here and is not stored yet
	tenant map[tenant.ID]hold
	open   int // of them
}

type hold struct {
	at   time.Time // of the last step back
	open bool      // nobody released it
}

// Open takes the mark file for this process. The database is not touched: give
// Connected to its pool, and then call Start.
func Open(c Config) (*Guard, error) {
	switch {
	case c.Path == "":
		return nil, errors.New("rollback: Path is required")
	case c.Every < 0:
		return nil, errors.New("rollback: Every must not be negative")
	}
	if c.Every == 0 {
		c.Every = DefaultEvery
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	file, known, err := openMark(c.Path)
	if err != nil {
		return nil, err
	}
	g := &Guard{
		every: c.Every, log: c.Logger, metrics: m, file: file, mark: known, wake: make(chan struct{}, 1),
	}
	g.seen.Store(known.Seq)
	g.holds.Store(&holds{})
	return g, nil
}

// Close gives the mark file up. Nil is fine.
func (g *Guard) Close() {
	if g != nil {
		g.file.close()
	}
}

// OnHold has fn told of each tenant that becomes held here, nil meaning all: what
// is cached of it is of a time that did not happen.
func (g *Guard) OnHold(fn func(*tenant.ID)) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.onHold = append(g.onHold, fn)
}

// Check is nil while verdicts may be made for t, else ErrHeld. Ask before a
// verdict is begun and again when it is stored, before it is answered.
func (g *Guard) Check(t tenant.ID) error {
	if g == nil {
		return nil
	}
	h := g.holds.Load()
	if h.all || h.tenant[t].open {
		return ErrHeld
	}
	return nil
}

// CheckAll is nil while no tenant is held.
func (g *Guard) CheckAll() error {
	if g == nil {
		return nil
	}
	h := g.holds.Load()
	if h.all || h.open > 0 {
		return ErrHeld
	}
	return nil
}

// Fresh is Check for a message that says itself when it was made and is accepted
// for as long as window either way. One that may have been accepted before a step
// back, whose nonce was forgotten by it, is ErrHeld.
func (g *Guard) Fresh(t tenant.ID, made time.Time, window time.Duration) error {
	if g == nil {
		return nil
	}
	if err := g.Check(t); err != nil {
		return err
	}
	h, ok := g.holds.Load().tenant[t]
	if ok && !made.After(h.at.Add(window)) {
		return ErrHeld
	}
	return nil
}

// WentBack is told of a row that is older than what this node had read of it.
func (g *Guard) WentBack(what string, had, has int64) {
	if g != nil {
		g.report(&finding{had, has, what})
	}
}

// Connected is for the pool's AfterConnect: it looks at the mark before anybody
// else uses the connection, and refuses the one that shows a step back.
func (g *Guard) Connected(ctx context.Context, conn *pgx.Conn) error {
	// First: a beat in between only makes the row newer. Until Start has looked there
	// is no verdict to keep from being made, and it needs a connection itself.
	had := g.seen.Load()
	if had == 0 || !g.started.Load() {
		return nil
	}
	var has int64
	err := conn.QueryRow(ctx, sqlSeq, g.mark.Node).Scan(&has)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case pg.IsUndefinedTable(err): // nothing was migrated yet, or everything is gone: Start and beats tell
	case err != nil:
		return err
	}
	if has >= had || !g.report(&finding{had, has, "a new connection"}) {
		return nil
	}
	return errBack
}

// report holds everybody until the finding is stored, and says whether that is
// news.
func (g *Guard) report(f *finding) bool {
	g.mu.Lock()
	news := g.found == nil
	if news {
		g.found = f
		h := *g.holds.Load()
		h.all = true
		g.holds.Store(&h)
		g.metrics.found.Inc()
		g.metrics.held.Set(1)
	}
	told := g.onHold
	g.mu.Unlock()
	if !news {
		return false
	}
	g.log.Error("the database was set back in time: verification is held until an operator releases it (docs/restore.md)",
		"seen_by", f.what, "expected", f.expected, "found", f.found)
	for _, fn := range told {
		fn(nil)
	}
	select {
	case g.wake <- struct{}{}:
	default:
	}
	return true
}

// Start makes the first beat: from then on Check knows.
func (g *Guard) Start(ctx context.Context, db DB, log *audit.Log) error {
	if g == nil {
		return nil
	}
	if err := g.beat(ctx, db, log); err != nil {
		return fmt.Errorf("rollback: %w", err)
	}
	g.started.Store(true)
	return nil
}

// Run beats until ctx ends, then returns nil.
func (g *Guard) Run(ctx context.Context, db DB, log *audit.Log) error {
	tick := time.NewTicker(g.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-g.wake:
		}
		within, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := g.beat(within, db, log)
		cancel()
		if err != nil && ctx.Err() == nil {
			g.metrics.failures.Inc()
			g.log.Warn("rollback: no beat", "error", err)
		}
	}
}
