package envelope

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// What operators do. These change and remove rows that the service has no right
// to change: they run as the owner of the tables, as migrations do.

const (
	sqlTables = `select purpose from dek where tenant_id = $1 and state = 'PRIMARY' order by purpose`

	sqlAdded = `select version from dek where tenant_id = $1 and purpose = $2 and state = 'ADDED' order by version desc limit 1`

	sqlDemote = `update dek set state = 'RETIRING', state_at = now(), held_until = '-infinity'
where tenant_id = $1 and purpose = $2 and state = 'PRIMARY'`

	sqlPromote = `update dek set state = 'PRIMARY', state_at = now() where tenant_id = $1 and version = $2 and state = 'ADDED'`

	sqlErase = `delete from dek where tenant_id = $1`

	sqlPrunable = `select tenant_id, version, purpose from dek where state = 'RETIRED' and state_at < now() - $1::interval`

	sqlPrune = `delete from dek where tenant_id = $1 and version = $2 and state = 'RETIRED'`

	sqlBack = `update dek set state = 'RETIRING', state_at = now(), held_until = '-infinity'
where tenant_id = $1 and version = $2 and state = 'RETIRED'`
)

// Rotate gives each table of a tenant that has a DEK a new one. The running nodes
// then seal anew what the old ones sealed. A call that was cut off may be
// repeated: it goes on with what was added. It returns how many are new.
func (r *Rotation) Rotate(ctx context.Context, t tenant.ID) (int, error) {
	rows, err := r.c.DB.Query(ctx, sqlTables, t.String())
	if err != nil {
		return 0, pg.Unavailable(fmt.Errorf("envelope: read data keys: %w", err))
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, pg.Unavailable(fmt.Errorf("envelope: read data keys: %w", err))
	}
	for i, table := range tables {
		if err := r.replace(ctx, purpose{t, table}); err != nil {
			return i, err
		}
	}
	r.c.Keyring.ask(t)
	return len(tables), nil
}

// replace adds a DEK, opens it, and only then makes it PRIMARY. One for all tables
// gets no successor: each table makes its own when it next seals.
func (r *Rotation) replace(ctx context.Context, p purpose) error {
	var version uint32
	if p.table != "" {
		var err error
		if version, err = r.added(ctx, p); err != nil {
			return err
		}
		if _, err := r.c.Keyring.opening(ctx, dekID{p.tenant, version}); err != nil {
			return err
		}
	}
	return pg.InTx(ctx, r.c.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlDemote, p.tenant.String(), p.table); err != nil {
			return err
		}
		if version == 0 {
			return nil
		}
		tag, err := tx.Exec(ctx, sqlPromote, p.tenant.String(), int32(version))
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("envelope: %w: somebody else rotates tenant %s", ErrField, p.tenant)
		}
		return err
	})
}

func (r *Rotation) added(ctx context.Context, p purpose) (uint32, error) {
	for range 16 {
		var version int32
		err := r.c.DB.QueryRow(ctx, sqlAdded, p.tenant.String(), p.table).Scan(&version)
		if err == nil {
			return uint32(version), nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return 0, pg.Unavailable(fmt.Errorf("envelope: read a data key: %w", err))
		}
		if _, err := r.c.Keyring.add(ctx, p, stateAdded); err != nil {
			return 0, err
		}
	}
	return 0, pg.Unavailable(errors.New("envelope: add a data key: others add theirs all the time"))
}

// Erase removes all DEKs of a tenant: nothing that was sealed for it can be opened
// again, by anybody who has not both an old copy of the database and the KEK. Nodes
// that run forget them within a minute. It returns how many there were.
func (r *Rotation) Erase(ctx context.Context, t tenant.ID) (int64, error) {
	if t == tenant.System {
		return 0, fmt.Errorf("envelope: %w: the installation's own keys are not a tenant's", ErrField)
	}
	tag, err := r.c.DB.Exec(ctx, sqlErase, t.String())
	if err != nil {
		return 0, pg.Unavailable(fmt.Errorf("envelope: erase tenant %s: %w", t, err))
	}
	r.c.Keyring.ask(t)
	return tag.RowsAffected(), r.c.Keyring.refresh(ctx, r.c.Forgotten)
}

// Prune removes DEKs that have been RETIRED for longer than keep, after a last look
// at all that they may have sealed. One that is found in use after all goes back.
func (r *Rotation) Prune(ctx context.Context, keep time.Duration) (int64, error) {
	rows, err := r.c.DB.Query(ctx, sqlPrunable, keep)
	if err != nil {
		return 0, pg.Unavailable(fmt.Errorf("envelope: read data keys: %w", err))
	}
	type row struct {
		Tenant  string
		Version int32
		Purpose string
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		return 0, pg.Unavailable(fmt.Errorf("envelope: read data keys: %w", err))
	}
	var n int64
	for _, o := range list {
		t, err := tenant.Stored(o.Tenant)
		if err != nil {
			return n, fmt.Errorf("envelope: %w: tenant of a data key", ErrCorrupt)
		}
		used, err := r.used(ctx, purpose{t, o.Purpose}, uint32(o.Version))
		if err != nil {
			return n, err
		}
		sql := sqlPrune
		if used {
			sql = sqlBack
		}
		tag, err := r.c.DB.Exec(ctx, sql, o.Tenant, o.Version)
		if err != nil {
			return n, pg.Unavailable(fmt.Errorf("envelope: prune data keys: %w", err))
		}
		if !used {
			n += tag.RowsAffected()
		}
	}
	return n, nil
}

// used looks for one value that the DEK sealed.
func (r *Rotation) used(ctx context.Context, p purpose, version uint32) (bool, error) {
	for _, c := range r.c.Columns {
		if p.table != "" && p.table != c.Table {
			continue
		}
		for after := ""; ; {
			rows, err := r.page(ctx, c, p.tenant, after, r.c.Batch)
			if err != nil {
				return false, err
			}
			for _, row := range rows {
				if sealedBy(row.blob, version) {
					return true, nil
				}
			}
			if len(rows) < r.c.Batch {
				break
			}
			after = rows[len(rows)-1].key
		}
	}
	return false, nil
}

// Key is one key as an operator sees it.
type Key struct {
	Tenant  string // empty: a key-encryption key
	Table   string // whose values it seals; empty: all of the tenant's
	Version int32
	KEK     string // which seals it; of a key-encryption key its own name
	State   string
	Since   time.Time // of the state
	Created time.Time
}

const sqlStatus = `select '', '', 0, name, state, state_at, created_at from kek
union all select tenant_id, purpose, version, kek, state, state_at, created_at from dek
order by 1, 2, 3, 4`

// Status lists all keys.
func (r *Rotation) Status(ctx context.Context) ([]Key, error) {
	rows, err := r.c.DB.Query(ctx, sqlStatus)
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("envelope: read keys: %w", err))
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Key])
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("envelope: read keys: %w", err))
	}
	return list, nil
}

// observe sets the metrics of counts and ages.
func (r *Rotation) observe(ctx context.Context) error {
	list, err := r.Status(ctx)
	if err != nil {
		return err
	}
	counts := map[string]int{stateAdded: 0, statePrimary: 0, stateRetiring: 0, stateRetired: 0}
	oldest := map[string]time.Duration{"data_key": 0, "kek": 0}
	for _, k := range list {
		kind := "kek"
		if k.Tenant != "" {
			kind = "data_key"
			counts[k.State]++
		}
		if k.State == statePrimary {
			oldest[kind] = max(oldest[kind], r.c.Keyring.o.Now().Sub(k.Created))
		}
	}
	for state, n := range counts {
		r.c.Keyring.metrics.keys.WithLabelValues(state).Set(float64(n))
	}
	for kind, d := range oldest {
		r.c.Keyring.metrics.age.WithLabelValues(kind).Set(d.Seconds())
	}
	return nil
}
