package envelope

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// NewKEK is a key-encryption key to be made.
type NewKEK struct {
	Name string   // its reference in the HSM
	ID   [16]byte // its CKA_ID
}

// RotateKEK puts a new key-encryption key in the place of the PRIMARY one and seals
// all DEKs with it. next names the successor of a name; make makes the key in the
// HSM unless it is there, with the id that was written down before. It returns the
// name and how many DEKs were sealed anew. A call that was cut off may be repeated:
// it goes on with the key that was intended, or with the DEKs that were left, and
// makes no further key. The old key stays RETIRING in the HSM, for
// old copies of the database: RetireKEKs tells when nothing here needs it.
func (r *Rotation) RotateKEK(ctx context.Context, next func(name string) (string, error), make func(context.Context, NewKEK) error) (string, int, error) {
	k := r.c.Keyring
	current, _, err := k.sealingKEK(ctx)
	if err != nil {
		return "", 0, err
	}
	if left, err := r.Rewrap(ctx); err != nil || left > 0 {
		return current, left, err
	}
	n, err := r.intend(ctx, current, next)
	if err != nil {
		return "", 0, err
	}
	if err := make(ctx, n); err != nil {
		return "", 0, fmt.Errorf("envelope: make key-encryption key %s: %w", n.Name, err)
	}
	kek, err := k.kekOf(ctx, n.Name)
	if err != nil {
		return "", 0, err
	}
	if err := proves(ctx, kek); err != nil {
		return "", 0, fmt.Errorf("envelope: key-encryption key %s: %w", n.Name, err)
	}
	if err := pg.InTx(ctx, r.c.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `update kek set state = 'RETIRING', state_at = now() where state = 'PRIMARY'`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `update kek set state = 'PRIMARY', state_at = now() where name = $1 and state = 'ADDED'`, n.Name)
		return err
	}); err != nil {
		return "", 0, err
	}
	sealed, err := r.Rewrap(ctx)
	return n.Name, sealed, err
}

// intend writes down which key is about to be made, or finds what was intended.
func (r *Rotation) intend(ctx context.Context, current string, next func(string) (string, error)) (n NewKEK, err error) {
	var id []byte
	err = r.c.DB.QueryRow(ctx, `select name, key_id from kek where state = 'ADDED' and key_id is not null order by created_at limit 1`).Scan(&n.Name, &id)
	if err == nil {
		copy(n.ID[:], id)
		return n, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return n, pg.Unavailable(fmt.Errorf("envelope: read key-encryption keys: %w", err))
	}
	if n.Name, err = next(current); err != nil {
		return n, err
	}
	_, _ = rand.Read(n.ID[:]) // never fails since Go 1.24
	_, err = r.c.DB.Exec(ctx, `insert into kek (name, key_id, state, state_at, created_at) values ($1, $2, 'ADDED', now(), now())`, n.Name, n.ID[:])
	if err != nil {
		return n, pg.Unavailable(fmt.Errorf("envelope: store the intent: %w", err))
	}
	return n, nil
}

// proves uses a key once in each direction.
func proves(ctx context.Context, kek KEK) error {
	probe, aad := make([]byte, dekLen), []byte("signet/kek/proof")
	_, _ = rand.Read(probe)
	sealed, err := kek.Seal(ctx, probe, aad)
	if err != nil {
		return err
	}
	opened, err := kek.Open(ctx, sealed, aad)
	if err == nil && !bytes.Equal(probe, opened) {
		err = fmt.Errorf("%w: it does not open what it sealed", ErrKEK)
	}
	return err
}

// Rewrap seals with the PRIMARY key-encryption key all DEKs that others sealed, one
// commit each, and returns how many.
func (r *Rotation) Rewrap(ctx context.Context) (int, error) {
	k := r.c.Keyring
	name, kek, err := k.sealingKEK(ctx)
	if err != nil {
		return 0, err
	}
	type row struct {
		Tenant  string
		Version int32
		Purpose string
		KEK     string
		Sealed  []byte
	}
	for n := 0; ; {
		rows, err := r.c.DB.Query(ctx, `select tenant_id, version, purpose, kek, sealed from dek where kek <> $1 limit 100`, name)
		if err != nil {
			return n, pg.Unavailable(fmt.Errorf("envelope: read data keys: %w", err))
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
		if err != nil {
			return n, pg.Unavailable(fmt.Errorf("envelope: read data keys: %w", err))
		}
		if len(list) == 0 {
			return n, nil
		}
		for _, o := range list {
			t, err := tenant.Stored(o.Tenant)
			if err != nil {
				return n, fmt.Errorf("envelope: %w: tenant of a data key", ErrCorrupt)
			}
			p := purpose{t, o.Purpose}
			key, err := k.unwrap(ctx, o.KEK, p, uint32(o.Version), o.Sealed)
			if err != nil {
				return n, err
			}
			sealed, err := kek.Seal(ctx, key, dekAAD(p, uint32(o.Version)))
			clear(key)
			if err != nil {
				return n, pg.Unavailable(fmt.Errorf("envelope: seal a data key: %w", err))
			}
			tag, err := r.c.DB.Exec(ctx, `update dek set kek = $3, sealed = $4
				where tenant_id = $1 and version = $2 and kek = $5 and sealed = $6`, o.Tenant, o.Version, name, sealed, o.KEK, o.Sealed)
			if err != nil {
				return n, pg.Unavailable(fmt.Errorf("envelope: store a data key: %w", err))
			}
			n += int(tag.RowsAffected())
		}
	}
}

// RetireKEKs marks the key-encryption keys that seal nothing here any more, and
// returns their names. A node that has not heard of the rotation may still have
// sealed a DEK with an old one, so it rewraps first, and leaves young ones alone.
// Destroying such a key in the HSM makes all older copies of the database
// unreadable, which is for an operator to want.
func (r *Rotation) RetireKEKs(ctx context.Context) ([]string, error) {
	if _, err := r.Rewrap(ctx); err != nil {
		return nil, err
	}
	if _, err := r.c.DB.Exec(ctx, `update kek set state = 'RETIRED', state_at = now()
		where state = 'RETIRING' and state_at < now() - $1::interval and not exists (select from dek where dek.kek = kek.name)`, r.c.Grace); err != nil {
		return nil, pg.Unavailable(fmt.Errorf("envelope: retire key-encryption keys: %w", err))
	}
	rows, err := r.c.DB.Query(ctx, `select name from kek where state = 'RETIRED' order by name`)
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("envelope: read key-encryption keys: %w", err))
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, pg.Unavailable(fmt.Errorf("envelope: read key-encryption keys: %w", err))
	}
	return names, nil
}
