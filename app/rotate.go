package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// RotateParams names the application whose master key is rotated.
type RotateParams struct {
	App   string
	Actor string // for the audit log
}

// RotateMaster makes the next generation of the application's master key, and
// signs with it from now on. Older generations stay: phones with a version made
// before go on encrypting to the key they carry (MasterOf), until their version
// is called back; such phones can not check the signature of a new activation
// code, so versions with the new key should be in the stores before. Repeated
// after a crash it goes on with the generation that was begun. Errors:
// ErrNotFound, ErrRotated, fault.ErrUnavailable while another call is at it.
func (r *Registry) RotateMaster(ctx context.Context, t tenant.ID, p RotateParams) (Application, error) {
	a, err := r.rotate(ctx, t, p)
	if err != nil {
		return Application{}, fmt.Errorf("app: rotate: %w", err)
	}
	return a, nil
}

func (r *Registry) rotate(ctx context.Context, t tenant.ID, p RotateParams) (Application, error) {
	g, err := r.beginGeneration(ctx, t, p.App)
	if err != nil {
		return Application{}, err
	}
	keyCtx, cancel := context.WithTimeout(ctx, staleIntent/2)
	defer cancel()
	ref := masterRef(t, p.App)
	ref.Generation = g.number
	in, public, err := r.masterKey(keyCtx, ref, g.intent, func(ctx context.Context, next intent) (bool, error) {
		tag, err := r.db.Exec(ctx, sqlMasterFence, t.String(), p.App, g.number, g.id, next.id, next.at)
		return tag.RowsAffected() == 1, err
	})
	if err != nil {
		return Application{}, err
	}
	won, err := r.apply(ctx, sqlMasterReady,
		[]any{t.String(), p.App, g.number, in.id, public, r.now().UTC().Truncate(time.Microsecond)}, audit.Event{
			Tenant: t, Action: "app.master.rotate", Actor: p.Actor, Subject: p.App, AppID: p.App, Outcome: "ok",
			Detail: map[string]any{"generation": g.number},
		})
	r.apps.forget(appKey{t, p.App})
	r.masters.forget(generationKey{appKey{t, p.App}, g.number})
	switch {
	case err != nil:
		return Application{}, err
	case !won:
		return Application{}, ErrRotated
	}
	return r.Get(ctx, t, p.App)
}

// generation is the intent of one more master key.
type generation struct {
	number int
	intent
}

// beginGeneration writes the intent of the next generation, or finds the one of
// an earlier call.
func (r *Registry) beginGeneration(ctx context.Context, t tenant.ID, id string) (generation, error) {
	if _, err := r.Get(ctx, t, id); err != nil {
		return generation{}, err
	}
	now := r.now().UTC().Truncate(time.Microsecond)
	if _, err := r.db.Exec(ctx, sqlMasterIntent, t.String(), id, uuid.New(), now); err != nil {
		return generation{}, pg.Unavailable(err)
	}
	var g generation
	err := r.db.QueryRow(ctx, sqlMasterIntentRead, t.String(), id).Scan(&g.number, &g.id, &g.at)
	if errors.Is(err, pgx.ErrNoRows) { // another call has just finished it
		return generation{}, ErrRotated
	}
	return g, pg.Unavailable(err)
}
