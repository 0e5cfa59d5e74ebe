package ownkey

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/pg"
)

// ErrKey: the token does not have the key that was made for this installation.
var ErrKey = fault.New(fault.Internal, "OWN_KEY", "the token does not hold the key that was made for this installation")

// DB is the part of a pgx pool that is used here.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// HSM is the part of *hsm.Token that is used here.
type HSM interface {
	Lookup(ctx context.Context, ref hsm.Ref) (hsm.KeyInfo, error)
	Generate(ctx context.Context, ref hsm.Ref, alg hsm.Algorithm, id [16]byte) (hsm.KeyInfo, error)
	Destroy(ctx context.Context, ref hsm.Ref) error
}

// Maker makes keys. DB and HSM are required.
type Maker struct {
	DB     DB
	HSM    HSM
	Lease  time.Duration // how long the making of one key may take; 0 = a minute
	Logger *slog.Logger  // nil = silence
}

const (
	defaultLease = time.Minute
	look         = 100 * time.Millisecond // how often a key is looked for that another makes
	cleanup      = 5 * time.Second        // for a statement after the context has ended
)

const (
	sqlRead = `select key_id, state, coalesce(until <= now(), false) from own_key where name = $1`

	sqlFound = `insert into own_key (name, key_id, state, created_at, ready_at) values ($1, $2, 'READY', now(), now())
on conflict (name) do nothing`

	sqlIntend = `insert into own_key (name, key_id, state, until, created_at)
values ($1, $2, 'MAKING', now() + $3::bigint * interval '1 millisecond', now())
on conflict (name) do nothing`

	// The new id keeps whoever was slow from finishing.
	sqlTakeOver = `update own_key set key_id = $3, until = now() + $4::bigint * interval '1 millisecond'
where name = $1 and key_id = $2 and state = 'MAKING' and until <= now()`

	sqlReady = `update own_key set state = 'READY', until = null, ready_at = now()
where name = $1 and key_id = $2 and state = 'MAKING'`

	sqlGiveUp = `update own_key set until = now() where name = $1 and key_id = $2 and state = 'MAKING'`
)

// record is a row.
type record struct {
	id    [16]byte
	ready bool
	over  bool // the maker's lease is
}

// Ensure returns when the key is on the token and recorded. It waits while another
// process makes it, as long as ctx lasts. It may be repeated after any failure.
// Errors: ErrKey, fault.ErrUnavailable, those of the HSM.
func (m Maker) Ensure(ctx context.Context, ref hsm.Ref, alg hsm.Algorithm) error {
	if m.Lease == 0 {
		m.Lease = defaultLease
	}
	if m.Logger == nil {
		m.Logger = slog.New(slog.DiscardHandler)
	}
	for waited := false; ; {
		r, err := m.read(ctx, ref)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			if done, err := m.first(ctx, ref, alg); done || err != nil {
				return err
			}
			continue
		case err != nil:
			return fmt.Errorf("ownkey: read %s: %w", ref, pg.Unavailable(err))
		case r.ready:
			return m.compare(ctx, ref, r)
		case r.over:
			if done, err := m.takeOver(ctx, ref, alg, r); done || err != nil {
				return err
			}
			continue
		}
		if !waited {
			waited = true
			m.Logger.LogAttrs(ctx, slog.LevelInfo, "ownkey: another process makes the key, or was killed at it a moment ago: waiting",
				slog.String("key", ref.String()))
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return fmt.Errorf("ownkey: wait for %s: %w: %w", ref, fault.ErrUnavailable, ctx.Err())
		}
	}
}

func (m Maker) read(ctx context.Context, ref hsm.Ref) (r record, err error) {
	var id []byte
	var state string
	if err = m.DB.QueryRow(ctx, sqlRead, ref.String()).Scan(&id, &state, &r.over); err == nil {
		copy(r.id[:], id)
		r.ready = state == "READY"
	}
	return r, err
}

// first is for a key without a record.
func (m Maker) first(ctx context.Context, ref hsm.Ref, alg hsm.Algorithm) (done bool, err error) {
	info, err := m.HSM.Lookup(ctx, ref)
	switch {
	case err == nil:
		if _, err := m.DB.Exec(ctx, sqlFound, ref.String(), info.ID[:]); err != nil {
			return false, fmt.Errorf("ownkey: record %s: %w", ref, pg.Unavailable(err))
		}
		return false, nil // and compared
	case !errors.Is(err, hsm.ErrKeyNotFound):
		return false, fmt.Errorf("ownkey: %w", err)
	}
	id := newID()
	tag, err := m.DB.Exec(ctx, sqlIntend, ref.String(), id[:], m.Lease.Milliseconds())
	if err != nil {
		return false, fmt.Errorf("ownkey: record %s: %w", ref, pg.Unavailable(err))
	}
	if tag.RowsAffected() == 0 {
		return false, nil // another process was faster
	}
	return true, m.make(ctx, ref, alg, id)
}

// takeOver makes anew what was not finished.
func (m Maker) takeOver(ctx context.Context, ref hsm.Ref, alg hsm.Algorithm, r record) (done bool, err error) {
	id := newID()
	tag, err := m.DB.Exec(ctx, sqlTakeOver, ref.String(), r.id[:], id[:], m.Lease.Milliseconds())
	if err != nil {
		return false, fmt.Errorf("ownkey: record %s: %w", ref, pg.Unavailable(err))
	}
	if tag.RowsAffected() == 0 {
		return false, nil
	}
	if err := m.HSM.Destroy(ctx, ref); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
		m.giveUp(ctx, ref, id)
		return false, fmt.Errorf("ownkey: sweep what was left of %s: %w", ref, err)
	}
	return true, m.make(ctx, ref, alg, id)
}

// make is bounded so that it is over before the lease is.
func (m Maker) make(ctx context.Context, ref hsm.Ref, alg hsm.Algorithm, id [16]byte) error {
	bounded, cancel := context.WithTimeout(ctx, m.Lease/2)
	defer cancel()
	if _, err := m.HSM.Generate(bounded, ref, alg, id); err != nil {
		if bounded.Err() == nil { // the module has answered and does nothing more
			m.giveUp(ctx, ref, id)
		}
		return fmt.Errorf("ownkey: %w", err)
	}
	tag, err := m.DB.Exec(ctx, sqlReady, ref.String(), id[:])
	if err != nil {
		return fmt.Errorf("ownkey: record %s: %w", ref, pg.Unavailable(err))
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("ownkey: %s: %w: another process took over", ref, fault.ErrUnavailable)
	}
	return nil
}

// giveUp lets the next one begin at once. It is best effort: the lease ends by itself.
func (m Maker) giveUp(ctx context.Context, ref hsm.Ref, id [16]byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
	defer cancel()
	if _, err := m.DB.Exec(ctx, sqlGiveUp, ref.String(), id[:]); err != nil {
		m.Logger.LogAttrs(ctx, slog.LevelWarn, "ownkey: an intent could not be given up", slog.String("key", ref.String()), slog.Any("cause", err))
	}
}

// compare looks for a key that is recorded as made.
func (m Maker) compare(ctx context.Context, ref hsm.Ref, r record) error {
	info, err := m.HSM.Lookup(ctx, ref)
	switch {
	case errors.Is(err, hsm.ErrKeyNotFound):
		return fmt.Errorf("ownkey: %w: %s was made and is not there: this is another token, or it was restored from before", ErrKey, ref)
	case err != nil:
		return fmt.Errorf("ownkey: %w", err)
	case info.ID != r.id:
		return fmt.Errorf("ownkey: %w: %s is there under another id: this is another token, or the database is an old copy", ErrKey, ref)
	}
	return nil
}

func newID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	return id
}
