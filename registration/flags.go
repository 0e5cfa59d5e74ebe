package registration

import (
	"context"
	"fmt"
	"slices"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

// FlagParams names a registration and flags.
type FlagParams struct {
	Apps  []string // the applications that the caller may use; empty means none
	ID    string
	Flags []string // each 1..255 characters, at most MaxFlags; repeats are dropped
	Actor string   // for the audit log
}

// AddFlags adds the flags that the registration does not have yet (PA-REG-07).
// Errors of the three: ErrInvalid, also when more than MaxFlags would be set;
// ErrNotFound, also for one that is REMOVED or has expired.
func (r *Registrar) AddFlags(ctx context.Context, t tenant.ID, p FlagParams) error {
	return r.flags(ctx, t, p, "registration.flags.add", func(have []string) []string {
		return unique(slices.Concat(have, p.Flags))
	})
}

// SetFlags replaces all flags; none clears them (PA-REG-08).
func (r *Registrar) SetFlags(ctx context.Context, t tenant.ID, p FlagParams) error {
	return r.flags(ctx, t, p, "registration.flags.set", func([]string) []string { return unique(p.Flags) })
}

// RemoveFlags removes the flags that the registration has (PA-REG-09).
func (r *Registrar) RemoveFlags(ctx context.Context, t tenant.ID, p FlagParams) error {
	return r.flags(ctx, t, p, "registration.flags.remove", func(have []string) []string {
		return slices.DeleteFunc(slices.Clone(have), func(f string) bool { return slices.Contains(p.Flags, f) })
	})
}

// flags stores what next makes of the flags; when that is what they are, nothing
// has happened and nothing is written.
func (r *Registrar) flags(ctx context.Context, t tenant.ID, p FlagParams, action string, next func([]string) []string) error {
	if err := refuse(flagViolations(p.Flags)); err != nil {
		return fmt.Errorf("registration: flags: %w", err)
	}
	for ; ; r.metrics.retries.Inc() {
		row, err := r.living(ctx, t, p.Apps, p.ID)
		if err != nil {
			return fmt.Errorf("registration: flags: %w", err)
		}
		flags := next(row.flags)
		if slices.Equal(flags, row.flags) {
			return nil
		}
		if len(flags) > MaxFlags {
			return fmt.Errorf("registration: flags: %w", ErrInvalid.With(tooManyFlags))
		}
		e := row.event(r.clock(), action, p.Actor, "ok")
		e.Detail = map[string]any{"flags": flags}
		won, err := r.apply(ctx, sqlFlags, []any{t.String(), row.id, row.revision, flags}, e)
		if err != nil {
			return fmt.Errorf("registration: flags: %w", err)
		}
		if won {
			return nil
		}
	}
}

var tooManyFlags = fault.Violation{Field: "flags", Hint: fmt.Sprintf("must have at most %d elements", MaxFlags)}

func flagViolations(flags []string) (v []fault.Violation) {
	if len(flags) > MaxFlags {
		return []fault.Violation{tooManyFlags}
	}
	for i, f := range flags {
		if !ValidText(f) {
			v = append(v, fault.Violation{Field: fmt.Sprintf("flags[%d]", i), Value: f, Hint: hintText})
		}
	}
	return v
}
