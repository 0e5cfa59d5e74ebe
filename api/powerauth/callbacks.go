package powerauth

import (
	"context"
	"slices"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/callback"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

// Callbacks is the part of *callback.Callbacks that the dialect calls.
type Callbacks interface {
	Create(ctx context.Context, t tenant.ID, p callback.CreateParams) (callback.Created, error)
	List(ctx context.Context, t tenant.ID, app string) ([]callback.Endpoint, error)
	Remove(ctx context.Context, t tenant.ID, ref callback.Ref) error
	Rotate(ctx context.Context, t tenant.ID, ref callback.Ref) (secret.Bytes, error)
}

var _ Callbacks = (*callback.Callbacks)(nil)

// createCallback is PA-X-05. The answer has, beside what the contract has, the
// secret that the receiver checks our signatures with: it is shown only here.
func (h *handlers) createCallback(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.CallbackConfig](r)
	if err != nil {
		return rest.Response{}, err
	}
	ref, err := callbackRef(r)
	if err != nil {
		return rest.Response{}, err
	}
	made, err := h.callbacks.Create(ctx, r.Principal.Tenant, callback.CreateParams{
		App: ref.App, Name: body.Name, Type: callback.Type(body.Type), URL: body.CallbackUrl, Actor: ref.Actor,
	})
	if err != nil {
		return rest.Response{}, err
	}
	return shownOnce(made.ID, made.Secret), nil
}

func shownOnce(id string, signing secret.Bytes) rest.Response {
	return rest.OK(spec.CallbackSecret{Status: "OK", Id: id, Secret: string(signing.Reveal())})
}

// listCallbacks is PA-X-13.
func (h *handlers) listCallbacks(ctx context.Context, r *rest.Request) (rest.Response, error) {
	ref, err := callbackRef(r)
	if err != nil {
		return rest.Response{}, err
	}
	list, err := h.callbacks.List(ctx, r.Principal.Tenant, ref.App)
	if err != nil {
		return rest.Response{}, err
	}
	out := make([]spec.Callback, len(list))
	for i, e := range list {
		out[i] = spec.Callback{Id: e.ID, Name: e.Name, Type: spec.CallbackType(e.Type), CallbackUrl: e.URL, TimestampCreated: e.CreatedAt.UnixMilli()}
	}
	return rest.OK(spec.CallbackList{Callbacks: out}), nil
}

// removeCallback is PA-X-14.
func (h *handlers) removeCallback(ctx context.Context, r *rest.Request) (rest.Response, error) {
	ref, err := callbackRef(r)
	if err != nil {
		return rest.Response{}, err
	}
	return done, h.callbacks.Remove(ctx, r.Principal.Tenant, ref)
}

// rotateCallback is PA-X-15.
func (h *handlers) rotateCallback(ctx context.Context, r *rest.Request) (rest.Response, error) {
	ref, err := callbackRef(r)
	if err != nil {
		return rest.Response{}, err
	}
	signing, err := h.callbacks.Rotate(ctx, r.Principal.Tenant, ref)
	if err != nil {
		return rest.Response{}, err
	}
	return shownOnce(ref.ID, signing), nil
}

// callbackRef is what the path names. An application that is not the caller's is
// unknown.
func callbackRef(r *rest.Request) (callback.Ref, error) {
	ref := callback.Ref{App: r.Path("appId"), ID: r.Path("callbackId"), Actor: r.Principal.Name}
	if !slices.Contains(r.Principal.Apps, ref.App) {
		return ref, app.ErrNotFound
	}
	return ref, nil
}
