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
	"github.com/signet-hsm/signet/tenant"
)

const (
	dekLen       = 32
	firstVersion = 1
)

// dek is a tenant's unwrapped data key.
type dek struct {
	version uint32
	// prk is HKDF-Extract of the key: that half is the same for every row.
	prk secret.Bytes
}

func newDEK(version uint32, key []byte) (*dek, error) {
	prk, err := hkdf.Extract(sha256.New, key, nil)
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	return &dek{version, secret.New(prk)}, nil
}

func (d *dek) rowCipher(place []byte) (cipher.AEAD, error) {
	key, err := hkdf.Expand(sha256.New, d.prk.Reveal(), string(place), 32)
	if err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	defer clear(key)
	return newGCM(key)
}

// sealing returns the tenant's newest DEK, made when there is none.
func (k *Keyring) sealing(ctx context.Context, t tenant.ID) (*dek, error) {
	k.mu.RLock()
	d := k.current[t]
	k.mu.RUnlock()
	if d != nil {
		return d, nil
	}
	return k.once(ctx, t.String(), func(ctx context.Context) (*dek, error) {
		version, err := k.newest(ctx, t)
		if err != nil {
			return nil, err
		}
		d, err := k.opening(ctx, dekID{t, version})
		if err != nil {
			return nil, err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.current[t] = d
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
	return k.once(ctx, fmt.Sprintf("%s/%d", id.tenant, id.version), func(ctx context.Context) (*dek, error) {
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

// newest returns the tenant's newest version, making the first one. Of several
// nodes that do so at once one inserts, and all use what is stored then; nobody
// uses a DEK that it has not read back and opened, least of all its maker.
func (k *Keyring) newest(ctx context.Context, t tenant.ID) (uint32, error) {
	var version *int32 // null: none
	if err := k.db.QueryRow(ctx, sqlNewest, t.String()).Scan(&version); err != nil {
		return 0, pg.Unavailable(fmt.Errorf("envelope: read a data key: %w", err))
	}
	if version != nil {
		return uint32(*version), nil
	}
	key := make([]byte, dekLen)
	_, _ = rand.Read(key) // never fails: crypto/rand.Read aborts the program instead
	defer clear(key)
	sealed, err := k.kek.Seal(ctx, key, dekAAD(t, firstVersion))
	if err != nil {
		return 0, pg.Unavailable(fmt.Errorf("envelope: seal a data key: %w", err))
	}
	tag, err := k.db.Exec(ctx, sqlInsert, t.String(), int32(firstVersion), k.o.KEKName, sealed, k.o.Now().UTC())
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == "23503" { // foreign_key_violation
		return 0, fmt.Errorf("envelope: %w: no tenant %s", ErrField, t)
	}
	if err != nil {
		return 0, pg.Unavailable(fmt.Errorf("envelope: store a data key: %w", err))
	}
	if tag.RowsAffected() == 1 {
		k.o.Logger.Info("data key made", "tenant", t.String(), "version", firstVersion)
	}
	return firstVersion, nil
}

// load reads one row of dek and unwraps it.
func (k *Keyring) load(ctx context.Context, id dekID) (*dek, error) {
	var kek string
	var sealed []byte
	err := k.db.QueryRow(ctx, sqlVersion, id.tenant.String(), int32(id.version)).Scan(&kek, &sealed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("envelope: %w: tenant %s has no data key %d", ErrCorrupt, id.tenant, id.version)
	case err != nil:
		return nil, pg.Unavailable(fmt.Errorf("envelope: read a data key: %w", err))
	case kek != k.o.KEKName:
		return nil, fmt.Errorf("envelope: %w: tenant %s: sealed by %q, ours is %q", ErrKEK, id.tenant, kek, k.o.KEKName)
	}
	key, err := k.kek.Open(ctx, sealed, dekAAD(id.tenant, id.version))
	defer clear(key)
	switch {
	case err == nil && len(key) == dekLen:
		k.metrics.unwraps.WithLabelValues("ok").Inc()
		return newDEK(id.version, key)
	case err == nil:
		err = fmt.Errorf("%d bytes", len(key))
	case fault.Of(err) == nil || fault.KindOf(err) == fault.Unavailable:
		k.metrics.unwraps.WithLabelValues("unavailable").Inc()
		return nil, pg.Unavailable(fmt.Errorf("envelope: open data key %d of tenant %s: %w", id.version, id.tenant, err))
	}
	k.metrics.unwraps.WithLabelValues("corrupt").Inc()
	return nil, fmt.Errorf("envelope: %w: data key %d of tenant %s: %w", ErrCorrupt, id.version, id.tenant, err)
}
