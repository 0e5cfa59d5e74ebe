package envelope

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/sweep"
	"github.com/signet-hsm/signet/tenant"
)

// RotationConfig makes a Rotation. DB, Keyring and Columns are required.
type RotationConfig struct {
	DB      *pgxpool.Pool
	Keyring *Keyring
	// Columns are all that hold sealed values: of one that is missing here, values
	// would become unreadable when their DEK goes.
	Columns []Column

	Batch int // rows in a commit; 0 = 200
	// Grace is how long after it was replaced a DEK can not be taken for unused,
	// because a node may not know yet; 0 = 10 min. Longer than Options.Refresh and a
	// request together.
	Grace time.Duration
	// Forgotten is told which tenants' keys are gone, on each node.
	Forgotten func(tenant.ID)

	Logger *slog.Logger // nil discards
}

// Rotation replaces keys while everything goes on: a new key is added, becomes
// PRIMARY, what the old one sealed is sealed anew in batches, and the old one
// retires when nothing is left. Each step is one commit and finds out by itself
// where the last one ended.
type Rotation struct{ c RotationConfig }

// NewRotation checks its configuration.
func NewRotation(c RotationConfig) (*Rotation, error) {
	if c.DB == nil || c.Keyring == nil || len(c.Columns) == 0 {
		return nil, errors.New("envelope: a rotation needs DB, Keyring and Columns")
	}
	for _, col := range c.Columns {
		if col.Table == "" || col.Column == "" || col.Page == "" {
			return nil, fmt.Errorf("envelope: column %q.%q is incomplete", col.Table, col.Column)
		}
	}
	if c.Batch == 0 {
		c.Batch = 200
	}
	if c.Grace == 0 {
		c.Grace = 10 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Rotation{c}, nil
}

// Run seals anew what retiring DEKs have sealed, and keeps the metrics and the
// memory of this node true, until ctx ends. Any number of nodes may.
func (r *Rotation) Run(ctx context.Context) error {
	return sweep.Loop{Name: "data keys", Every: 30 * time.Second, Round: r.Round, Logger: r.c.Logger}.Run(ctx)
}

// Round does one piece of that work and tells whether there may be more.
func (r *Rotation) Round(ctx context.Context) (more bool, err error) {
	if err := r.c.Keyring.refresh(ctx, r.c.Forgotten); err != nil {
		return false, err
	}
	if err := r.observe(ctx); err != nil {
		return false, err
	}
	old, err := r.claim(ctx)
	if err != nil || old == nil {
		return false, err
	}
	return true, r.retire(ctx, old)
}

const (
	sqlClaim = `update dek set held_until = now() + interval '1 minute'
where (tenant_id, version) = (select tenant_id, version from dek
    where state = 'RETIRING' and held_until < now() order by held_until limit 1 for update skip locked)
returning tenant_id, version, purpose, now() - state_at`

	sqlHold = `update dek set held_until = now() + $3 where tenant_id = $1 and version = $2 and state = 'RETIRING' and held_until > now()`

	sqlRetired = `update dek set state = 'RETIRED', state_at = now()
where tenant_id = $1 and version = $2 and state = 'RETIRING'`
)

// retiring is a DEK whose values are to be sealed anew.
type retiring struct {
	purpose
	version uint32
	since   time.Duration
}

// claim takes a retiring DEK that nobody works on, for a minute.
func (r *Rotation) claim(ctx context.Context) (*retiring, error) {
	var (
		name    string
		version int32
		old     retiring
	)
	err := r.c.DB.QueryRow(ctx, sqlClaim).Scan(&name, &version, &old.table, &old.since)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("envelope: claim a data key: %w", err))
	}
	if old.tenant, err = tenant.Stored(name); err != nil {
		return nil, fmt.Errorf("envelope: %w: tenant of a data key", ErrCorrupt)
	}
	old.version = uint32(version)
	return &old, nil
}

// hold keeps the claim for d more; false: it ran out, and somebody else may have it.
func (r *Rotation) hold(ctx context.Context, old *retiring, d time.Duration) (bool, error) {
	tag, err := r.c.DB.Exec(ctx, sqlHold, old.tenant.String(), int32(old.version), d)
	if err != nil {
		return false, pg.Unavailable(fmt.Errorf("envelope: hold a data key: %w", err))
	}
	return tag.RowsAffected() == 1, nil
}

// retire goes once over all that the DEK may have sealed. A pass that finds
// nothing, long enough after the DEK was replaced, ends its life.
func (r *Rotation) retire(ctx context.Context, old *retiring) error {
	r.c.Keyring.ask(old.tenant)
	found, damaged := 0, 0
	for _, c := range r.c.Columns {
		if old.table != "" && old.table != c.Table {
			continue
		}
		for after := ""; ; {
			rows, err := r.page(ctx, c, old.tenant, after, r.c.Batch)
			if err != nil {
				return err
			}
			f, d, err := r.reseal(ctx, c, old, rows)
			if err != nil {
				return err
			}
			found, damaged = found+f, damaged+d
			if len(rows) < r.c.Batch {
				break
			}
			after = rows[len(rows)-1].key
			if held, err := r.hold(ctx, old, time.Minute); err != nil || !held {
				return err
			}
		}
	}
	if damaged > 0 {
		r.c.Logger.Error("values of a retiring data key do not open; it stays",
			"tenant", old.tenant.String(), "table", old.table, "version", old.version, "values", damaged)
	}
	if found > 0 || damaged > 0 || old.since < r.c.Grace {
		_, err := r.hold(ctx, old, r.c.Grace/4)
		return err
	}
	if _, err := r.c.DB.Exec(ctx, sqlRetired, old.tenant.String(), int32(old.version)); err != nil {
		return pg.Unavailable(fmt.Errorf("envelope: retire a data key: %w", err))
	}
	r.c.Logger.Info("data key retired", "tenant", old.tenant.String(), "table", old.table, "version", old.version)
	return nil
}

// reseal seals anew those rows of a page that the DEK has sealed: in one commit,
// each by its own compare-and-swap.
func (r *Rotation) reseal(ctx context.Context, c Column, old *retiring, rows []sealedRow) (found, damaged int, err error) {
	var mine []sealedRow
	var blobs [][]byte
	for _, row := range rows {
		if !sealedBy(row.blob, old.version) {
			continue
		}
		found++
		if c.Swap == "" {
			continue
		}
		f := Field{Tenant: old.tenant, Table: c.Table, Column: c.Column, Row: row.row}
		plain, err := r.c.Keyring.Open(ctx, f, row.blob)
		if errors.Is(err, ErrCorrupt) {
			damaged++
			continue
		}
		if err != nil {
			return found, damaged, err
		}
		blob, err := r.c.Keyring.Seal(ctx, f, plain.Reveal())
		plain.Wipe()
		if err != nil {
			return found, damaged, err
		}
		mine, blobs = append(mine, row), append(blobs, blob)
	}
	if len(mine) == 0 {
		return found, damaged, nil
	}
	n, err := r.swap(ctx, c, old.tenant, mine, blobs)
	r.c.Keyring.metrics.resealed.Add(float64(n))
	return found, damaged, err
}

// sealedBy reports whether a blob names that DEK.
func sealedBy(blob []byte, version uint32) bool {
	return len(blob) >= headerLen && blob[0] == format && binary.BigEndian.Uint32(blob[1:]) == version
}
