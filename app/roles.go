package app

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/pg"
	"github.com/signet-hsm/signet/tenant"
)

// RoleParams names roles to add to or remove from an application.
type RoleParams struct {
	App   string
	Roles []string // each 1..255 characters, at most MaxRoles
	Actor string   // for the audit log
}

// AddRoles adds roles behind those that are there; repeats are ignored
// (PA-ADM-04). Errors: ErrInvalid, also when there would be more than MaxRoles;
// ErrNotFound.
func (r *Registry) AddRoles(ctx context.Context, t tenant.ID, p RoleParams) error {
	return r.changeRoles(ctx, t, p, "app.roles.add", func(roles []string) []string {
		for _, role := range p.Roles {
			if !slices.Contains(roles, role) {
				roles = append(roles, role)
			}
		}
		return roles
	})
}

// RemoveRoles removes roles; those that are not there are ignored (PA-ADM-05).
// Errors: ErrInvalid, ErrNotFound.
func (r *Registry) RemoveRoles(ctx context.Context, t tenant.ID, p RoleParams) error {
	return r.changeRoles(ctx, t, p, "app.roles.remove", func(roles []string) []string {
		return slices.DeleteFunc(roles, func(role string) bool { return slices.Contains(p.Roles, role) })
	})
}

// changeRoles compares and swaps: of two changes at once, the second is made on
// what the first left.
func (r *Registry) changeRoles(ctx context.Context, t tenant.ID, p RoleParams, action string, change func([]string) []string) error {
	if v := checkRoles(p.Roles); v != nil {
		return fmt.Errorf("app: roles: %w", ErrInvalid.With(v...))
	}
	if !text(p.App) {
		return fmt.Errorf("app: roles: %w", ErrNotFound)
	}
	defer r.apps.forget(appKey{t, p.App})
	for {
		var before []string
		err := r.db.QueryRow(ctx, sqlRoles, t.String(), p.App).Scan(&before)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("app: roles: %w", ErrNotFound)
		case err != nil:
			return fmt.Errorf("app: roles: %w", pg.Unavailable(err))
		}
		after := change(slices.Clone(before))
		if slices.Equal(before, after) {
			return nil
		}
		if len(after) > MaxRoles {
			return fmt.Errorf("app: roles: %w", ErrInvalid.With(fault.Violation{
				Field: "roles", Hint: fmt.Sprintf("an application must have at most %d roles", MaxRoles),
			}))
		}
		won, err := r.apply(ctx, sqlRolesChange, []any{t.String(), p.App, before, after}, audit.Event{
			Tenant: t, Action: action, Actor: p.Actor, Subject: p.App, AppID: p.App, Outcome: "ok",
			Detail: map[string]any{"roles": after, "before": before},
		})
		if err != nil {
			return fmt.Errorf("app: roles: %w", err)
		}
		if won {
			return nil
		}
	}
}
