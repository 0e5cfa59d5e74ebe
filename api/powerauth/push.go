package powerauth

import (
	"context"
	"slices"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/callback"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/tenant"
)

// Push is the part of *push.Pusher that the dialect calls.
type Push interface {
	Send(ctx context.Context, t tenant.ID, m push.Message) error
	SetAPNs(ctx context.Context, t tenant.ID, c push.APNsCredential) error
	SetFCM(ctx context.Context, t tenant.ID, c push.FCMCredential) error
	SetDevice(ctx context.Context, t tenant.ID, d push.Device) error
}

// Callbacks is the part of *callback.Callbacks that the dialect calls.
type Callbacks interface {
	Create(ctx context.Context, t tenant.ID, p callback.CreateParams) (callback.Created, error)
}

// sendMessage is PA-PUSH-01.
func (h *handlers) sendMessage(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.SendMessage](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	notEmpty(&c, "registrationId", body.RegistrationId)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	return done, h.push.Send(ctx, r.Principal.Tenant, push.Message{
		Apps: r.Principal.Apps, UserID: body.UserId, Registration: value(body.RegistrationId, ""), Silent: value(body.Silent, false),
		Title: body.Title, Body: body.Message, Sound: value(body.Sound, ""), Extras: value(body.Extras, nil), Actor: r.Principal.Name,
	})
}

// configureAPNs is PA-X-03.
func (h *handlers) configureAPNs(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.PushApns](r)
	if err != nil {
		return rest.Response{}, err
	}
	return done, h.push.SetAPNs(ctx, r.Principal.Tenant, push.APNsCredential{
		App: r.Path("appId"), Topic: body.Topic, KeyID: body.KeyId, TeamID: body.TeamId,
		Environment: string(value(body.Environment, "")), PrivateKey: secret.New([]byte(body.PrivateKeyBase64)), Actor: r.Principal.Name,
	})
}

// configureFCM is PA-X-04.
func (h *handlers) configureFCM(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.PushFcm](r)
	if err != nil {
		return rest.Response{}, err
	}
	return done, h.push.SetFCM(ctx, r.Principal.Tenant, push.FCMCredential{
		App: r.Path("appId"), ProjectID: body.ProjectId, PrivateKey: secret.New([]byte(body.PrivateKeyBase64)), Actor: r.Principal.Name,
	})
}

// createCallback is PA-X-05. The answer has, beside what the contract has, the
// secret that the receiver checks our signatures with: it is shown only here.
func (h *handlers) createCallback(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.CallbackConfig](r)
	if err != nil {
		return rest.Response{}, err
	}
	id := r.Path("appId")
	if !slices.Contains(r.Principal.Apps, id) {
		return rest.Response{}, app.ErrNotFound
	}
	made, err := h.callbacks.Create(ctx, r.Principal.Tenant, callback.CreateParams{
		App: id, Name: body.Name, Type: callback.Type(body.Type), URL: body.CallbackUrl, Actor: r.Principal.Name,
	})
	if err != nil {
		return rest.Response{}, err
	}
	return rest.OK(struct {
		Status string `json:"status"`
		ID     string `json:"id"`
		Secret string `json:"secret"`
	}{"OK", made.ID, string(made.Secret.Reveal())}), nil
}

// registerPush is POST /api/push/device/register: where this phone's pushes go.
func (h *handlers) registerPush(ctx context.Context, r *rest.Request) (rest.Response, error) {
	c, err := h.byToken(ctx, r)
	if err != nil {
		return rest.Response{}, err
	}
	body, err := rest.DecodeKnown[object[struct {
		Platform string `json:"platform"`
		Token    string `json:"token"`
	}]](r)
	if err != nil {
		return rest.Response{}, err
	}
	return done, h.push.SetDevice(ctx, c.Tenant, push.Device{
		Registration: c.ID, App: c.App, Platform: push.Platform(body.Object.Platform), Token: secret.New([]byte(body.Object.Token)),
	})
}
