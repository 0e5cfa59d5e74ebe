package registration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// StatusAnswer is what a device learns of its registration.
type StatusAnswer struct {
	Blob  [signature.StatusBlobSize]byte
	Nonce *[16]byte // with a challenge only
}

// Status serves POST /pa/v3/activation/status, which nobody signs: the blob is
// encrypted for the one device that can read it. challenge is 16 bytes from 3.1
// on, nil before; without it the counter is left out. An unknown id, and a
// registration that has no keys yet, get random bytes that look the same: that a
// registration exists is not told. Errors: outages only; never a REMOVED that is
// not true.
func (r *Registrar) Status(ctx context.Context, id string, challenge *[16]byte) (StatusAnswer, error) {
	a, err := r.status(ctx, id, challenge)
	if err != nil {
		return StatusAnswer{}, fmt.Errorf("registration: status: %w", err)
	}
	return a, nil
}

var stateBytes = map[State]byte{
	StateCreated: 1, StatePendingCommit: 2, StateActive: 3, StateBlocked: 4, StateRemoved: 5,
}

// settled reads a registration after its lazy expiry. A phone that is told REMOVED
// wipes itself, so that is said only when it was written.
func (r *Registrar) settled(ctx context.Context, id uuid.UUID) (*hot, error) {
	for ; ; r.metrics.retries.Inc() {
		h, err := r.readAnywhere(ctx, id)
		if err != nil || h == nil || !h.state.inProgress() || r.now().Before(h.expiresAt) {
			return h, err
		}
		won, err := r.expire(ctx, h.record())
		if err != nil {
			return nil, err
		}
		if won {
			h.state = StateRemoved
			return h, nil
		}
	}
}

func (r *Registrar) status(ctx context.Context, id string, challenge *[16]byte) (StatusAnswer, error) {
	var a StatusAnswer
	_, _ = rand.Read(a.Blob[:])
	if challenge != nil {
		a.Nonce = new([16]byte)
		_, _ = rand.Read(a.Nonce[:])
	}
	key, ok := parseID(id)
	if !ok {
		return a, nil
	}
	h, err := r.settled(ctx, key)
	if err != nil {
		return StatusAnswer{}, err
	}
	// Phones that are told of a state from before, or that they are unknown, may
	// act on it.
	if err := r.statusHeld(h); err != nil {
		return StatusAnswer{}, err
	}
	if h == nil || h.sealed == nil {
		return a, nil
	}
	keys, err := r.keysOf(ctx, h.tenant, h.id, h.sealed)
	if err != nil {
		return StatusAnswer{}, err
	}
	var random signature.StatusRandom
	_, _ = rand.Read(random[:])
	a.Blob = keys.EncryptStatus(signature.Status{
		State: stateBytes[h.state], CurrentVersion: 3, UpgradeVersion: 3,
		CounterByte:    byte(h.counter),
		FailedAttempts: byte(min(h.failed, 255)), MaxFailedAttempts: byte(min(h.max, 255)),
		LookAhead: h.announced(), CounterHash: keys.CounterHash(h.ctr),
	}, challenge, a.Nonce, &random)
	return a, nil
}

// statusHeld refuses while the tenant is held, and for an unknown registration
// while any is.
func (r *Registrar) statusHeld(h *hot) error {
	if h == nil {
		return r.guard.CheckAll()
	}
	return r.guard.Check(h.tenant)
}

// readAnywhere finds a registration by its id alone; nil is none.
func (r *Registrar) readAnywhere(ctx context.Context, id uuid.UUID) (*hot, error) {
	var (
		h     = hot{id: id, found: true}
		owner string
		ctr   []byte
	)
	err := r.db.QueryRow(ctx, sqlAnywhere, id).Scan(&owner, &h.app, &h.user, &h.state, &h.sealed, &ctr,
		&h.counter, &h.failed, &h.max, &h.revision, &h.expiresAt, &h.advancedTo)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, pg.Unavailable(err)
	}
	copy(h.ctr[:], ctr)
	h.tenant, err = tenant.Parse(owner)
	return &h, err
}

// ServerTime is what POST /pa/v3/status tells, in Unix milliseconds.
func (r *Registrar) ServerTime() int64 { return r.now().Truncate(time.Millisecond).UnixMilli() }
