package powerauth

import (
	"context"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/registration"
)

// createRegistration is PA-REG-01.
func (h *handlers) createRegistration(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.CreateRegistration](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	notEmpty(&c, "otp", body.Otp)
	mode := value(body.OtpValidation, spec.CreateRegistrationOtpValidationNONE)
	rest.OneOf(&c, "otpValidation", mode, spec.CreateRegistrationOtpValidationNONE,
		spec.CreateRegistrationOtpValidationONKEYEXCHANGE, spec.CreateRegistrationOtpValidationONCOMMIT)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	created, err := h.registrations.Create(ctx, r.Principal.Tenant, registration.CreateParams{
		Apps: r.Principal.Apps, App: body.AppId, UserID: body.UserId, OTPMode: registration.OTPMode(mode),
		OTP: value(body.Otp, ""), Flags: value(body.Flags, nil), Actor: r.Principal.Name,
	})
	return rest.OK(spec.RegistrationCreated{RegistrationId: created.ID, ActivationQrCodeData: created.QRCodeData}), err
}

// commitRegistration is PA-REG-02.
func (h *handlers) commitRegistration(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.DecodeOptional[spec.CommitRegistration](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	notEmpty(&c, "externalUserId", body.ExternalUserId)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	err = h.registrations.Commit(ctx, r.Principal.Tenant, registration.CommitParams{
		Apps: r.Principal.Apps, ID: r.Path("registrationId"), OTP: value(body.Otp, ""),
		ExternalUserID: value(body.ExternalUserId, ""), Actor: r.Principal.Name,
	})
	return done, err
}

// getRegistration is PA-REG-03. For who prefers a picture, the activation code of
// a CREATED registration is drawn.
func (h *handlers) getRegistration(ctx context.Context, r *rest.Request) (rest.Response, error) {
	reg, err := h.registrations.Get(ctx, r.Principal.Tenant, r.Principal.Apps, r.Path("registrationId"))
	if err != nil {
		return rest.Response{}, err
	}
	if reg.State == registration.StateCreated {
		return pictured(r, reg.QRCodeData, registrationBody(reg))
	}
	return rest.OK(registrationBody(reg)), nil
}

// listRegistrations is PA-REG-04.
func (h *handlers) listRegistrations(ctx context.Context, r *rest.Request) (rest.Response, error) {
	var c rest.Check
	user, _ := c.Query(r, "userId")
	c.Length("userId", user, 1, registration.MaxText)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	list, err := h.registrations.List(ctx, r.Principal.Tenant, r.Principal.Apps, user)
	if err != nil {
		return rest.Response{}, err
	}
	items := make([]spec.RegistrationListItem, len(list))
	for i, reg := range list {
		items[i] = spec.RegistrationListItem{
			RegistrationId: reg.ID, RegistrationStatus: spec.RegistrationStatus(reg.State), Name: reg.Name, Flags: reg.Flags,
			TimestampCreated: reg.CreatedAt.UnixMilli(), TimestampLastUsed: reg.LastUsedAt.UnixMilli(),
		}
	}
	return rest.OK(spec.RegistrationList{Registrations: items}), nil
}

// registrationBody is the shape that belongs to the state.
func registrationBody(reg registration.Registration) any {
	created, used := reg.CreatedAt.UnixMilli(), reg.LastUsedAt.UnixMilli()
	switch reg.State {
	case registration.StateCreated:
		return spec.RegistrationCreatedState{
			RegistrationId: reg.ID, RegistrationStatus: spec.RegistrationCreatedStateRegistrationStatusCREATED,
			ActivationQrCodeData: reg.QRCodeData, Flags: reg.Flags, TimestampCreated: created, TimestampLastUsed: used,
		}
	case registration.StatePendingCommit:
		return spec.RegistrationPendingCommitState{
			RegistrationId: reg.ID, RegistrationStatus: spec.RegistrationPendingCommitStateRegistrationStatusPENDINGCOMMIT,
			Name: reg.Name, Platform: spec.RegistrationPendingCommitStatePlatform(reg.Platform), DeviceInfo: reg.DeviceInfo,
			ActivationFingerprint: reg.Fingerprint, Flags: reg.Flags, TimestampCreated: created, TimestampLastUsed: used,
		}
	}
	// ACTIVE and BLOCKED have the same shape; the domain shows no REMOVED one.
	return spec.RegistrationActiveState{
		RegistrationId: reg.ID, RegistrationStatus: spec.RegistrationActiveStateRegistrationStatus(reg.State),
		Name: reg.Name, Platform: spec.RegistrationActiveStatePlatform(reg.Platform), DeviceInfo: reg.DeviceInfo,
		Flags: reg.Flags, TimestampCreated: created, TimestampLastUsed: used,
	}
}

// value is *p, or def when the client left it out.
func value[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}

// notEmpty refuses a text that was sent, but empty.
func notEmpty(c *rest.Check, field string, s *string) {
	if s != nil && *s == "" {
		c.Fail(field, nil, "must not be empty")
	}
}
