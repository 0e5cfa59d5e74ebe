package powerauth

import (
	"context"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/push"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// Push is the part of *push.Pusher that the dialect calls.
type Push interface {
	Send(ctx context.Context, t tenant.ID, m push.Message) error
	SetAPNs(ctx context.Context, t tenant.ID, c push.APNsCredential) error
	SetFCM(ctx context.Context, t tenant.ID, c push.FCMCredential) error
	SetHMS(ctx context.Context, t tenant.ID, c push.HMSCredential) error
	SetDevice(ctx context.Context, t tenant.ID, d push.Device) error

	PostInbox(ctx context.Context, t tenant.ID, l push.Letter) (push.InboxMessage, error)
	Inbox(ctx context.Context, t tenant.ID, q push.InboxQuery) ([]push.InboxMessage, error)
	Message(ctx context.Context, t tenant.ID, q push.InboxQuery, id string) (push.InboxMessage, error)
	Unread(ctx context.Context, t tenant.ID, q push.InboxQuery) (int, error)
	Read(ctx context.Context, t tenant.ID, q push.InboxQuery, id string) error
	ReadAll(ctx context.Context, t tenant.ID, q push.InboxQuery) error
}

var _ Push = (*push.Pusher)(nil)

// sendMessage is PA-PUSH-01.
func (h *handlers) sendMessage(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.SendMessage](r, "extras.*") // free data
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
	var c rest.Check
	if body.Environment != nil { // empty is not left out
		rest.OneOf(&c, "environment", *body.Environment, "development", "production")
	}
	if err := c.Err(); err != nil {
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

// configureHMS is PA-X-12.
func (h *handlers) configureHMS(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.PushHms](r)
	if err != nil {
		return rest.Response{}, err
	}
	return done, h.push.SetHMS(ctx, r.Principal.Tenant, push.HMSCredential{
		App: r.Path("appId"), HMSAppID: body.HmsAppId, ClientSecret: secret.New([]byte(body.ClientSecret)), Actor: r.Principal.Name,
	})
}

// uriPush is the resource id that a phone signs for when it has no token yet.
const uriPush = "/push/device/register"

// registerPush is POST /api/push/device/register, signed or with a token: where
// this phone's pushes go.
func (h *handlers) registerPush(ctx context.Context, r *rest.Request) (rest.Response, error) {
	if r.Header(signature.HeaderName) == "" {
		return h.registerPushByToken(ctx, r)
	}
	req, err := signed(r)
	if err != nil {
		return rest.Response{}, err
	}
	c, err := h.registrations.Authenticate(ctx, req, uriPush, approving...)
	if err != nil {
		return rest.Response{}, err
	}
	return h.setDevice(ctx, r, c)
}

// registerPushByToken is POST /api/push/device/register/token.
func (h *handlers) registerPushByToken(ctx context.Context, r *rest.Request) (rest.Response, error) {
	c, err := h.byToken(ctx, r)
	if err != nil {
		return rest.Response{}, err
	}
	return h.setDevice(ctx, r, c)
}

func (h *handlers) setDevice(ctx context.Context, r *rest.Request, c registration.Caller) (rest.Response, error) {
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
