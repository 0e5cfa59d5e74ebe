package powerauth

import (
	"context"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"
)

var done = rest.OK(spec.Status{Status: "OK"})

// changeRegistration is PA-REG-05.
func (h *handlers) changeRegistration(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.ChangeRegistration](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	notEmpty(&c, "externalUserId", body.ExternalUserId)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	return done, h.registrations.Change(ctx, r.Principal.Tenant, registration.ChangeParams{
		Apps: r.Principal.Apps, ID: r.Path("registrationId"), Change: registration.Change(body.Change),
		BlockReason: value(body.BlockReason, ""), ExternalUserID: value(body.ExternalUserId, ""), Actor: r.Principal.Name,
	})
}

// removeRegistration is PA-REG-06.
func (h *handlers) removeRegistration(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return done, h.registrations.Change(ctx, r.Principal.Tenant, registration.ChangeParams{
		Apps: r.Principal.Apps, ID: r.Path("registrationId"), Change: registration.Remove, Actor: r.Principal.Name,
	})
}

// addFlags is PA-REG-07.
func (h *handlers) addFlags(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return flags(ctx, r, h.registrations.AddFlags)
}

// setFlags is PA-REG-08.
func (h *handlers) setFlags(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return flags(ctx, r, h.registrations.SetFlags)
}

// removeFlags is PA-REG-09.
func (h *handlers) removeFlags(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return flags(ctx, r, h.registrations.RemoveFlags)
}

func flags(ctx context.Context, r *rest.Request, change func(context.Context, tenant.ID, registration.FlagParams) error) (rest.Response, error) {
	body, err := rest.Decode[spec.FlagList](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	present(&c, "flags", body.Flags != nil)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	return done, change(ctx, r.Principal.Tenant, registration.FlagParams{
		Apps: r.Principal.Apps, ID: r.Path("registrationId"), Flags: body.Flags, Actor: r.Principal.Name,
	})
}

// present refuses a body without a member that must be there.
func present(c *rest.Check, field string, ok bool) {
	if !ok {
		c.Fail(field, nil, "must be present")
	}
}
