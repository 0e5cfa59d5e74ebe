package app

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

// Detail is what the developer of a mobile app is given.
type Detail struct {
	Application  Application
	Version      Version
	MasterPublic []byte // 65 bytes: the master key that the version carries
}

// Detail returns an application with one of its versions, the newest supported
// one when name is empty (PA-ADM-03). Errors: ErrNotFound, ErrVersion.
func (r *Registry) Detail(ctx context.Context, t tenant.ID, id, name string) (Detail, error) {
	a, err := r.Get(ctx, t, id)
	if err != nil {
		return Detail{}, err
	}
	versions, err := r.Versions(ctx, t, id)
	if err != nil {
		return Detail{}, err
	}
	for _, v := range slices.Backward(versions) {
		if !v.Supported || name != "" && v.Name != name {
			continue
		}
		public, err := r.masterPublic(ctx, generationKey{appKey{t, id}, v.MasterGeneration})
		if err != nil {
			return Detail{}, err
		}
		return Detail{a, v, public}, nil
	}
	return Detail{}, fmt.Errorf("app: detail: %w", ErrVersion)
}

// VersionParams names a version.
type VersionParams struct {
	App   string
	Name  string // 1..255 characters
	Actor string // for the audit log
}

func (p VersionParams) validate() error {
	if !text(p.Name) {
		return ErrInvalid.With(fault.Violation{Field: "version", Value: p.Name, Hint: hintText})
	}
	return nil
}

// CreateVersion makes a supported version with a key and secret of its own, that
// carries the newest master key. Errors: ErrInvalid, ErrNotFound for an unknown
// application, ErrVersionExists.
func (r *Registry) CreateVersion(ctx context.Context, t tenant.ID, p VersionParams) (Version, error) {
	v, err := r.createVersion(ctx, t, p)
	if err != nil {
		return Version{}, fmt.Errorf("app: create version: %w", err)
	}
	return v, nil
}

func (r *Registry) createVersion(ctx context.Context, t tenant.ID, p VersionParams) (Version, error) {
	if err := p.validate(); err != nil {
		return Version{}, err
	}
	a, err := r.Get(ctx, t, p.App)
	if err != nil {
		return Version{}, err
	}
	v, sealed, err := r.newVersion(ctx, Version{Tenant: t, App: p.App, Name: p.Name, MasterGeneration: a.MasterGeneration})
	if err != nil {
		return Version{}, err
	}
	won, err := r.apply(ctx, sqlVersionCreate,
		[]any{t.String(), p.App, p.Name, v.Key[:], sealed, r.now().UTC().Truncate(time.Microsecond), v.MasterGeneration},
		audit.Event{
			Tenant: t, Action: "app.version.create", Actor: p.Actor, Subject: p.App, AppID: p.App, Outcome: "ok",
			Detail: map[string]any{"version": p.Name, "appKey": base64.StdEncoding.EncodeToString(v.Key[:]), "masterGeneration": v.MasterGeneration},
		})
	switch {
	case pg.IsUnique(err, "app_version_pkey"):
		return Version{}, ErrVersionExists
	case err != nil:
		return Version{}, err
	case !won:
		return Version{}, ErrNotFound
	}
	return v, nil
}

// newVersion draws the key and the secret of v and seals the secret.
func (r *Registry) newVersion(ctx context.Context, v Version) (Version, []byte, error) {
	v.Supported = true
	_, _ = rand.Read(v.Key[:])
	raw := make([]byte, 16)
	_, _ = rand.Read(raw)
	v.Secret = secret.New(base64.StdEncoding.AppendEncode(nil, raw))
	clear(raw)
	sealed, err := r.envelope.Seal(ctx, secretField(v.Tenant, v.Key), v.Secret.Reveal())
	return v, sealed, err
}

// Support takes a version up again; Unsupport calls it back: requests of phones
// with it are refused, here at once and by other nodes within CacheTTL. Doing so
// twice changes nothing. Errors: ErrVersion, ErrNotFound.
func (r *Registry) Support(ctx context.Context, t tenant.ID, p VersionParams) error {
	return r.setSupported(ctx, t, p, true, "app.version.support")
}

// Unsupport is the opposite of Support.
func (r *Registry) Unsupport(ctx context.Context, t tenant.ID, p VersionParams) error {
	return r.setSupported(ctx, t, p, false, "app.version.unsupport")
}

func (r *Registry) setSupported(ctx context.Context, t tenant.ID, p VersionParams, supported bool, action string) error {
	if _, err := r.Get(ctx, t, p.App); err != nil {
		return err
	}
	versions, err := r.Versions(ctx, t, p.App)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(versions, func(v Version) bool { return v.Name == p.Name })
	if i < 0 {
		return fmt.Errorf("app: support: %w", ErrVersion)
	}
	_, err = r.apply(ctx, sqlVersionSupport, []any{t.String(), p.App, p.Name, supported}, audit.Event{
		Tenant: t, Action: action, Actor: p.Actor, Subject: p.App, AppID: p.App, Outcome: "ok",
		Detail: map[string]any{"version": p.Name},
	})
	r.versions.forget(versions[i].Key)
	if err != nil {
		return fmt.Errorf("app: support: %w", err)
	}
	return nil
}

// apply runs a statement that ends in audit.After and reports whether it changed
// anything.
func (r *Registry) apply(ctx context.Context, sql string, args []any, e audit.Event) (bool, error) {
	event, err := r.audit.Args(e)
	if err != nil {
		return false, err
	}
	tag, err := r.db.Exec(ctx, sql, append(args, event...)...)
	if err != nil {
		return false, pg.Unavailable(err)
	}
	return tag.RowsAffected() == 1, nil
}
