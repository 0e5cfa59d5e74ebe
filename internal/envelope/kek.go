package envelope

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
)

// The states of data keys and of key-encryption keys alike.
const (
	stateAdded    = "ADDED"    // stored, used by nobody
	statePrimary  = "PRIMARY"  // seals
	stateRetiring = "RETIRING" // opens what it sealed, until that is sealed anew
	stateRetired  = "RETIRED"  // has nothing left; kept for a while, for what was missed
)

const sqlPrimaryKEK = `select name from kek where state = 'PRIMARY'`

// The first key is recorded when it first seals.
const sqlFirstKEK = `insert into kek (name, state, state_at, created_at)
select $1, 'PRIMARY', $2, $2 where not exists (select from kek) on conflict do nothing`

// PrimaryKEK is the name of the key that seals DEKs; empty before the first one was.
func PrimaryKEK(ctx context.Context, db DB) (name string, err error) {
	err = db.QueryRow(ctx, sqlPrimaryKEK).Scan(&name)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", pg.Unavailable(fmt.Errorf("envelope: read the key-encryption key's name: %w", err))
	}
	return name, nil
}

// sealingKEK is the key that seals new DEKs.
func (k *Keyring) sealingKEK(ctx context.Context) (name string, kek KEK, err error) {
	err = k.db.QueryRow(ctx, sqlPrimaryKEK).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		if _, err = k.db.Exec(ctx, sqlFirstKEK, k.o.KEKName, k.o.Now().UTC()); err == nil {
			err = k.db.QueryRow(ctx, sqlPrimaryKEK).Scan(&name)
		}
	}
	if err != nil {
		return "", nil, pg.Unavailable(fmt.Errorf("envelope: read the key-encryption key's name: %w", err))
	}
	kek, err = k.kekOf(ctx, name)
	return name, kek, err
}

// kekOf is the key of that name. One that the HSM does not have is ErrKEK.
func (k *Keyring) kekOf(ctx context.Context, name string) (KEK, error) {
	if name == k.o.KEKName {
		return k.kek, nil
	}
	k.mu.RLock()
	kek := k.keks[name]
	k.mu.RUnlock()
	if kek != nil {
		return kek, nil
	}
	if k.o.KEKs == nil {
		return nil, fmt.Errorf("envelope: %w: sealed by %q, ours is %q", ErrKEK, name, k.o.KEKName)
	}
	kek, err := k.o.KEKs(ctx, name)
	switch {
	case err == nil:
	case fault.Of(err) == nil || fault.KindOf(err) == fault.Unavailable:
		return nil, pg.Unavailable(fmt.Errorf("envelope: find key-encryption key %q: %w", name, err))
	default:
		return nil, fmt.Errorf("envelope: %w: sealed by %q: %w", ErrKEK, name, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keks[name] = kek
	return kek, nil
}
