package app

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/hsm"
	"github.com/signet-hsm/signet/internal/envelope"
	"github.com/signet-hsm/signet/tenant"
)

// DefaultVersion is the name of the version that Create makes.
const DefaultVersion = "default"

// An intent this old was left by a crash: making a key is bounded by half of it.
const staleIntent = time.Minute

// CreateParams describes a new application.
type CreateParams struct {
	ID    string   // 1..255 characters
	Roles []string // each 1..255 characters, at most MaxRoles, no repeats
	Actor string   // for the audit log
}

// Create makes an application with its master key in the HSM and its default
// version. It may be repeated after any failure; it answers ErrExists once the
// application is READY.
func (r *Registry) Create(ctx context.Context, t tenant.ID, p CreateParams) (Application, Version, error) {
	fail := func(err error) (Application, Version, error) {
		return Application{}, Version{}, fmt.Errorf("app: create: %w", err)
	}
	if err := p.validate(); err != nil {
		return fail(err)
	}
	if p.Roles == nil {
		p.Roles = []string{}
	}
	in, err := r.intend(ctx, t, p)
	if err != nil {
		return fail(err)
	}
	keyCtx, cancel := context.WithTimeout(ctx, staleIntent/2)
	defer cancel()
	in, public, err := r.masterKey(keyCtx, masterRef(t, p.ID), in, func(ctx context.Context, next intent) (bool, error) {
		tag, err := r.db.Exec(ctx, sqlIntentFence, t.String(), p.ID, in.id, next.id, next.at)
		return tag.RowsAffected() == 1, err
	})
	if err != nil {
		return fail(err)
	}

	v, sealed, err := r.newVersion(ctx, Version{Tenant: t, App: p.ID, Name: DefaultVersion})
	if err != nil {
		return fail(err)
	}
	event, err := r.audit.Args(audit.Event{
		Tenant: t, Action: "app.create", Actor: p.Actor, Subject: p.ID, AppID: p.ID, Outcome: "ok",
		Detail: map[string]any{"roles": p.Roles, "version": v.Name, "appKey": base64.StdEncoding.EncodeToString(v.Key[:])},
	})
	if err != nil {
		return fail(err)
	}
	now := r.now().UTC().Truncate(time.Microsecond)
	args := append([]any{t.String(), p.ID, in.id, p.Roles, public, now, v.Name, v.Key[:], sealed}, event...)
	tag, err := r.db.Exec(ctx, sqlReady, args...)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", fault.ErrUnavailable, err))
	}
	if tag.RowsAffected() == 0 { // another Create of the same intent was first
		return fail(ErrExists)
	}
	r.apps.forget(appKey{t, p.ID})
	return Application{Tenant: t, ID: p.ID, Roles: slices.Clone(p.Roles), MasterPublic: public, CreatedAt: in.at}, v, nil
}

// intent is the promise to make a master key under id.
type intent struct {
	id uuid.UUID
	at time.Time
}

// intend writes the intent, or finds the one of an earlier Create.
func (r *Registry) intend(ctx context.Context, t tenant.ID, p CreateParams) (intent, error) {
	in := intent{uuid.New(), r.now().UTC().Truncate(time.Microsecond)}
	tag, err := r.db.Exec(ctx, sqlIntent, t.String(), p.ID, p.Roles, in.id, in.at)
	if err != nil {
		return intent{}, fmt.Errorf("intent: %w: %w", fault.ErrUnavailable, err)
	}
	if tag.RowsAffected() == 1 {
		return in, nil
	}
	var state string
	err = r.db.QueryRow(ctx, sqlIntentRead, t.String(), p.ID).Scan(&state, &in.id, &in.at)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // rows are never deleted; be safe
		return intent{}, ErrNotFound
	case err != nil:
		return intent{}, fmt.Errorf("intent: %w: %w", fault.ErrUnavailable, err)
	case state != "CREATING":
		return intent{}, ErrExists
	}
	in.at = in.at.UTC()
	return in, nil
}

// masterKey makes the key of an intent, or adopts the one that an earlier call
// made for the same intent. fence puts another intent in its place, and tells
// whether it did.
func (r *Registry) masterKey(ctx context.Context, ref hsm.Ref, in intent, fence func(context.Context, intent) (bool, error)) (intent, []byte, error) {
	info, err := r.hsm.Generate(ctx, ref, hsm.P256, [16]byte(in.id))
	if errors.Is(err, hsm.ErrExists) {
		info, err = r.hsm.Lookup(ctx, ref)
		if errors.Is(err, hsm.ErrKeyNotFound) {
			in, info, err = r.replace(ctx, ref, in, fence)
		}
	}
	if err != nil {
		return in, nil, fmt.Errorf("master key: %w", err)
	}
	if info.ID != [16]byte(in.id) {
		return in, nil, fmt.Errorf("%w: %s is another intent's", ErrMaster, ref)
	}
	public, err := point(info.Public)
	return in, public, err
}

// replace clears the half of a key pair that a crash left behind. A new intent
// comes first: whoever still works on the old one can not finish then.
func (r *Registry) replace(ctx context.Context, ref hsm.Ref, in intent, fence func(context.Context, intent) (bool, error)) (intent, hsm.KeyInfo, error) {
	now := r.now().UTC().Truncate(time.Microsecond)
	busy := fmt.Errorf("%w: another call is making it", fault.ErrUnavailable)
	if now.Sub(in.at) < staleIntent {
		return in, hsm.KeyInfo{}, busy
	}
	next := intent{uuid.New(), now}
	switch won, err := fence(ctx, next); {
	case err != nil:
		return in, hsm.KeyInfo{}, fmt.Errorf("intent: %w: %w", fault.ErrUnavailable, err)
	case !won:
		return in, hsm.KeyInfo{}, busy
	}
	if err := r.hsm.Destroy(ctx, ref); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
		return next, hsm.KeyInfo{}, err
	}
	info, err := r.hsm.Generate(ctx, ref, hsm.P256, [16]byte(next.id))
	if errors.Is(err, hsm.ErrExists) {
		err = fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
	}
	return next, info, err
}

func secretField(t tenant.ID, key [16]byte) envelope.Field {
	return envelope.Field{Tenant: t, Table: "app_version", Column: "secret_sealed", Row: hex.EncodeToString(key[:])}
}
