package envelope

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/secret"
)

const (
	dekLen       = 32
	firstVersion = 1
)

// dek is an unwrapped data key.
type dek struct {
	version uint32
	table   string // whose values it seals; empty: all of the tenant's, before there were purposes
	// prk is HKDF-Extract of the key: that half is the same for every row.
	prk secret.Bytes
}

func newDEK(version uint32, table string, key []byte) (*dek, error) {
	prk, err := hkdf.Extract(sha256.New, key, nil)
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	return &dek{version, table, secret.New(prk)}, nil
}

func (d *dek) rowCipher(place []byte) (cipher.AEAD, error) {
	key, err := hkdf.Expand(sha256.New, d.prk.Reveal(), string(place), 32)
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	defer clear(key)
	return newGCM(key)
}

// sealing returns the PRIMARY DEK of a purpose, made when there is none. What was
// PRIMARY a moment ago still seals: a rotation waits for longer than that before
// it takes a DEK for unused.
func (k *Keyring) sealing(ctx context.Context, p purpose) (*dek, error) {
	k.mu.RLock()
	c, ok := k.current[p]
	k.mu.RUnlock()
	if ok && k.o.Now().Sub(c.asked) < k.o.Refresh {
		return c.dek, nil
	}
	return k.once(ctx, "seal/"+p.tenant.String()+"/"+p.table, func(ctx context.Context) (*dek, error) {
		asked := k.o.Now()
		version, err := k.primary(ctx, p)
		if err != nil {
			return nil, err
		}
		d, err := k.opening(ctx, dekID{p.tenant, version})
		if err != nil {
			return nil, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.current[p] = primary{d, asked}
		return d, nil
	})
}

// opening returns one version of a tenant's DEK.
func (k *Keyring) opening(ctx context.Context, id dekID) (*dek, error) {
	k.mu.RLock()
	d := k.deks[id]
	k.mu.RUnlock()
	if d != nil {
		return d, nil
	}
	if id.version == 0 || id.version > math.MaxInt32 { // what the column can not hold was never sealed with
		return nil, fmt.Errorf("envelope: %w: data key %d", ErrCorrupt, id.version)
	}
	return k.once(ctx, fmt.Sprintf("open/%s/%d", id.tenant, id.version), func(ctx context.Context) (*dek, error) {
		d, err := k.load(ctx, id)
		if err != nil {
			return nil, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.deks[id] = d
		k.metrics.cached.Set(float64(len(k.deks)))
		return d, nil
	})
}

// once runs get for one caller while the others wait for its result. The work
// has a deadline of its own: a caller that gives up must not fail those who came
// after it.
func (k *Keyring) once(ctx context.Context, key string, get func(context.Context) (*dek, error)) (*dek, error) {
	result := k.flight.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.o.Timeout)
		defer cancel()
		return get(ctx)
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*dek), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("envelope: data key: %w: %w", fault.ErrUnavailable, ctx.Err())
	}
}

// primary returns the number of the PRIMARY DEK, making the first one. Of several
// nodes that do so at once one inserts, and all use what is stored then; nobody
// uses a DEK that it has not read back and opened, least of all its maker.
func (k *Keyring) primary(ctx context.Context, p purpose) (uint32, error) {
	for range 16 { // a number can be taken by a key for another table
		var version int32
		err := k.db.QueryRow(ctx, sqlPrimary, p.tenant.String(), p.table).Scan(&version)
		if err == nil {
			return uint32(version), nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return 0, pg.Unavailable(fmt.Errorf("envelope: read a data key: %w", err))
		}
		if _, err := k.add(ctx, p, statePrimary); err != nil {
			return 0, err
		}
	}
	return 0, pg.Unavailable(errors.New("envelope: make a data key: others make theirs all the time"))
}

// add stores a new DEK in the given state. Zero means that somebody else was
// faster: its number was taken, or there is a PRIMARY one.
func (k *Keyring) add(ctx context.Context, p purpose, state string) (uint32, error) {
	var last int32
	if err := k.db.QueryRow(ctx, sqlLast, p.tenant.String()).Scan(&last); err != nil {
		return 0, pg.Unavailable(fmt.Errorf("envelope: read a data key: %w", err))
	}
	if last == math.MaxInt32 {
		return 0, fmt.Errorf("envelope: %w: tenant %s has had all data keys", ErrField, p.tenant)
	}
	version := uint32(last) + 1
	name, kek, err := k.sealingKEK(ctx)
	if err != nil {
		return 0, err
	}
	key := make([]byte, dekLen)
	_, _ = rand.Read(key) // never fails: crypto/rand.Read aborts the program instead
	defer clear(key)
	sealed, err := kek.Seal(ctx, key, dekAAD(p, version))
	if err != nil {
		return 0, pg.Unavailable(fmt.Errorf("envelope: seal a data key: %w", err))
	}
	tag, err := k.db.Exec(ctx, sqlInsert, p.tenant.String(), int32(version), p.table, name, sealed, state, k.o.Now().UTC())
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "23503" { // foreign_key_violation
		return 0, fmt.Errorf("envelope: %w: no tenant %s", ErrField, p.tenant)
	}
	if err != nil {
		return 0, pg.Unavailable(fmt.Errorf("envelope: store a data key: %w", err))
	}
	if tag.RowsAffected() == 0 {
		return 0, nil
	}
	k.o.Logger.Info("data key made", "tenant", p.tenant.String(), "table", p.table, "version", version, "kek", name)
	return version, nil
}

// load reads one row of dek and unwraps it.
func (k *Keyring) load(ctx context.Context, id dekID) (*dek, error) {
	var name, table string
	var sealed []byte
	err := k.db.QueryRow(ctx, sqlVersion, id.tenant.String(), int32(id.version)).Scan(&name, &table, &sealed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("envelope: %w: tenant %s has no data key %d", ErrCorrupt, id.tenant, id.version)
	case err != nil:
		return nil, pg.Unavailable(fmt.Errorf("envelope: read a data key: %w", err))
	}
	key, err := k.unwrap(ctx, name, purpose{id.tenant, table}, id.version, sealed)
	defer clear(key)
	if err != nil {
		return nil, err
	}
	return newDEK(id.version, table, key)
}

// unwrap opens a sealed DEK with the KEK of that name. The caller wipes the key.
func (k *Keyring) unwrap(ctx context.Context, name string, p purpose, version uint32, sealed []byte) ([]byte, error) {
	kek, err := k.kekOf(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("data key %d of tenant %s: %w", version, p.tenant, err)
	}
	key, err := kek.Open(ctx, sealed, dekAAD(p, version))
	switch {
	case err == nil && len(key) == dekLen:
		k.metrics.unwraps.WithLabelValues("ok").Inc()
		return key, nil
	case err == nil:
		err = fmt.Errorf("%d bytes", len(key))
		clear(key)
	case fault.Of(err) == nil || fault.KindOf(err) == fault.Unavailable:
		k.metrics.unwraps.WithLabelValues("unavailable").Inc()
		return nil, pg.Unavailable(fmt.Errorf("envelope: open data key %d of tenant %s: %w", version, p.tenant, err))
	}
	k.metrics.unwraps.WithLabelValues("corrupt").Inc()
	return nil, fmt.Errorf("envelope: %w: data key %d of tenant %s: %w", ErrCorrupt, version, p.tenant, err)
}
