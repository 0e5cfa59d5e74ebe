package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// ChainDB is a pool; each call is a statement of its own.
type ChainDB interface {
	DB
	Execer
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// SealerConfig makes a Sealer. DB and Keys are required.
type SealerConfig struct {
	DB   ChainDB
	Keys Keys
	Key  hsm.Ref // signs checkpoints; zero: KeyRef()

	Interval time.Duration // between two passes of Run; 0: 1 s
	Grace    time.Duration // how long after its time an event may still be committed; 0: 5 min
	Lease    time.Duration // how long a tenant stays with one sealer after its last work; 0: 10 s
	Batch    int           // rows sealed by one statement; 0: 250, because one may be a pack of 100 KB
	// A checkpoint is signed when there is news and the last one is as old as
	// SignEvery, or SignRows events behind. 0: 1 min, 10,000.
	SignEvery time.Duration
	SignRows  int64

	Now     func() time.Time
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Validate names the first thing that can not work.
func (c SealerConfig) Validate() error {
	switch {
	case c.DB == nil, c.Keys == nil:
		return fmt.Errorf("audit: sealer: %w: DB and Keys are required", ErrInvalid)
	case c.Interval < 0, c.Grace < 0, c.Lease < 0, c.Batch < 0, c.SignEvery < 0, c.SignRows < 0:
		return fmt.Errorf("audit: sealer: %w: a negative bound", ErrInvalid)
	case c.Key != (hsm.Ref{}) && (c.Key.Role != hsm.RoleAudit || c.Key.Tenant != tenant.System.String()):
		return fmt.Errorf("audit: sealer: %w: %s can not sign checkpoints", ErrInvalid, c.Key)
	}
	return nil
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Sealer appends events to their tenants' chains and signs checkpoints. Its
// methods are for one goroutine at a time; any number of Sealers may share a
// database.
type Sealer struct {
	SealerConfig
	holder  string
	metrics *sealerMetrics
	passes  int
	tenants map[string]*progress
}

// progress is what a sealer remembers of a tenant. The database has the last
// word; that it went back is noticed here.
type progress struct {
	seq    int64      // the end of the chain when it was last seen
	last   Checkpoint // zero: none yet
	loaded bool       // last was read
}

// NewSealer makes a Sealer; it does not touch the database or the HSM.
func NewSealer(c SealerConfig) (*Sealer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Key = or(c.Key, KeyRef())
	c.Interval, c.Grace, c.Lease = or(c.Interval, time.Second), or(c.Grace, 5*time.Minute), or(c.Lease, 10*time.Second)
	c.Batch = or(c.Batch, 250)
	c.SignEvery, c.SignRows = or(c.SignEvery, time.Minute), or(c.SignRows, 10_000)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newSealerMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	return &Sealer{SealerConfig: c, holder: rand.Text(), metrics: m, tenants: map[string]*progress{}}, nil
}

// Run seals until ctx ends, and then once more for what was committed since. A
// pass that fails is logged and tried again.
func (s *Sealer) Run(ctx context.Context) error {
	tick := time.NewTicker(s.Interval)
	defer tick.Stop()
	for {
		if _, err := s.Seal(ctx); err != nil && ctx.Err() == nil {
			s.Logger.LogAttrs(ctx, slog.LevelError, "audit: sealing failed", slog.Any("cause", err))
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			_, _ = s.Seal(last)
			// Whoever comes next need not wait for the leases to run out. Failing to
			// say so costs that wait and nothing else.
			_, _ = s.DB.Exec(last, sqlRelease, s.holder)
			return nil
		case <-tick.C:
		}
	}
}

// tailWindow is what most passes look at; each fullEvery-th looks at all that
// the mark leaves open.
const (
	tailWindow = 15 * time.Second
	fullEvery  = 10
)

// Seal makes one pass over all tenants and returns how many events it sealed.
// Trouble with one tenant, or with signing, does not keep the others from being
// sealed; all of it comes back, joined.
func (s *Sealer) Seal(ctx context.Context) (sealed int, err error) {
	full := s.passes%fullEvery == 0
	s.passes++
	rows, err := s.DB.Query(ctx, sqlHeads)
	if err != nil {
		return 0, s.failed("heads", err)
	}
	heads, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (head, error) {
		var h head
		return h, h.scan(row)
	})
	if err != nil {
		return 0, s.failed("heads", err)
	}
	var all error
	for i := range heads {
		n, err := s.sealTenant(ctx, &heads[i], full)
		sealed += n
		if err != nil {
			all = errors.Join(all, fmt.Errorf("tenant %s: %w", heads[i].tenant, err))
		}
	}
	return sealed, all
}

func (s *Sealer) failed(step string, err error) error {
	s.metrics.failures.WithLabelValues(step).Inc()
	return fmt.Errorf("audit: seal: %s: %w", step, pg.Unavailable(err))
}

// head is a tenant's row, and what the rows tell about the lease.
type head struct {
	tenant string
	seq    int64
	hash   digest
	mark   uuid.UUID
	holder string
	held   bool // the lease has not run out
}

func (h *head) scan(row pgx.Row) error {
	var hash []byte
	if err := row.Scan(&h.tenant, &h.seq, &hash, &h.mark, &h.holder, &h.held); err != nil {
		return err
	}
	h.hash = toDigest(hash) // a tenant without a row has none
	return nil
}

func (s *Sealer) sealTenant(ctx context.Context, h *head, full bool) (sealed int, err error) {
	p := s.tenants[h.tenant]
	if p == nil {
		p = &progress{}
		s.tenants[h.tenant] = p
	}
	if h.seq < p.seq {
		s.alarm(ctx, h, "the chain is shorter than it was")
		p.loaded = false
	}
	if h.held && h.holder != s.holder {
		p.seq = h.seq
		return 0, nil
	}
	for {
		n, more, err := s.append(ctx, h, full)
		sealed += n
		p.seq = h.seq
		if err != nil {
			return sealed, err
		}
		if !more {
			break
		}
	}
	return sealed, s.checkpoint(ctx, h, p)
}

// append seals one batch and moves h. more says that there may be another.
func (s *Sealer) append(ctx context.Context, h *head, full bool) (n int, more bool, err error) {
	now := s.Now() // before the rows are read
	from := h.mark
	if tail := floor(now.Add(-tailWindow), uuid.Nil); !full && bytes.Compare(tail[:], from[:]) > 0 {
		from = tail
	}
	events, err := s.unsealed(ctx, h.tenant, from)
	if err != nil {
		return 0, false, s.failed("read", err)
	}
	mark := h.mark
	if full {
		mark = s.advance(h.mark, now, events)
	}
	if len(events) == 0 && !s.worthMoving(h.mark, mark) {
		return 0, false, nil
	}
	if !h.held || h.holder != s.holder {
		if won, err := s.acquire(ctx, h); err != nil || !won {
			return 0, false, err
		}
		return 0, true, nil // the head may have moved: read again under the lease
	}
	links := chain{tenant: h.tenant, seq: h.seq, hash: h.hash}
	ids, hashes := make([]pgtype.UUID, len(events)), make([][]byte, len(events))
	for i := range events {
		link, err := links.next(&events[i])
		if err != nil {
			return 0, false, s.failed("encode", err)
		}
		links.add(link)
		ids[i], hashes[i] = events[i].id, link[:]
	}
	won, err := s.commit(ctx, h, &links, mark, ids, hashes)
	if err != nil || !won {
		return 0, false, err
	}
	s.metrics.sealed.Add(float64(len(events)))
	return len(events), len(events) == s.Batch, nil
}

// advance is the mark after events are sealed, when all rows from the old mark
// on were asked for: Grace ago, or the last event of a batch that may not be all.
func (s *Sealer) advance(old uuid.UUID, now time.Time, events []stored) uuid.UUID {
	next := floor(now.Add(-s.Grace), uuid.Nil)
	if len(events) == s.Batch {
		if last := uuid.UUID(events[len(events)-1].id.Bytes); bytes.Compare(last[:], next[:]) < 0 {
			next = last
		}
	}
	if bytes.Compare(next[:], old[:]) < 0 { // the clock went back
		return old
	}
	return next
}

// worthMoving keeps an idle tenant's head from being written at each full pass.
func (s *Sealer) worthMoving(old, next uuid.UUID) bool {
	return idTime(next).Sub(idTime(old)) > s.Grace
}

func idTime(id uuid.UUID) time.Time {
	var ms int64
	for _, b := range id[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms)
}

func (s *Sealer) unsealed(ctx context.Context, tenant string, from uuid.UUID) ([]stored, error) {
	rows, err := s.DB.Query(ctx, sqlUnsealed, tenant, pgtype.UUID{Bytes: from, Valid: true}, s.Batch)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e stored, err error) {
		return e, row.Scan(append([]any{&e.id}, e.fields()...)...)
	})
}

// acquire takes the lease when it is free and reads the head anew.
func (s *Sealer) acquire(ctx context.Context, h *head) (bool, error) {
	if _, err := s.DB.Exec(ctx, sqlHeadCreate, h.tenant, make([]byte, sha256.Size), pgtype.UUID{Valid: true}); err != nil {
		return false, s.failed("lease", err)
	}
	err := h.scan(s.DB.QueryRow(ctx, sqlLease, h.tenant, s.holder, s.Lease.Milliseconds()))
	if errors.Is(err, pgx.ErrNoRows) { // another sealer was first
		return false, nil
	}
	if err != nil {
		return false, s.failed("lease", err)
	}
	return true, nil
}

// commit writes the links and moves the head, both or none.
func (s *Sealer) commit(ctx context.Context, h *head, end *chain, mark uuid.UUID, ids []pgtype.UUID, hashes [][]byte) (bool, error) {
	var moved, written int
	err := s.DB.QueryRow(ctx, sqlAppend, h.tenant, h.seq, h.hash[:], end.seq, end.hash[:], pgtype.UUID{Bytes: mark, Valid: true},
		s.holder, s.Lease.Milliseconds(), ids, hashes).Scan(&moved, &written)
	var pgErr *pgconn.PgError
	switch {
	case pg.IsUnique(err, ""): // rows that no sealer wrote are in the way
		errors.As(err, &pgErr)
		s.alarm(ctx, h, "rows beyond the end of the chain: "+pgErr.ConstraintName)
		return false, s.failed("append", err)
	case err != nil:
		return false, s.failed("append", err)
	case moved == 0: // the lease ran out and another sealer went on
		return false, nil
	case written != len(ids):
		return false, s.failed("append", fmt.Errorf("%w: %d of %d rows", ErrBroken, written, len(ids)))
	}
	h.seq, h.hash, h.mark = end.seq, end.hash, mark
	return true, nil
}

// alarm is for what only tampering, or a database restored behind our back,
// explains. Sealing goes on: what comes now deserves a chain too.
func (s *Sealer) alarm(ctx context.Context, h *head, what string) {
	s.metrics.alarms.Inc()
	s.Logger.LogAttrs(ctx, slog.LevelError, "audit: the chain was changed: run audit verify",
		slog.String("tenant", h.tenant), slog.Int64("seq", h.seq), slog.String("what", what))
}
