package powerauth

import (
	"context"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/signature"
)

// listVersions is PA-X-16.
func (h *handlers) listVersions(ctx context.Context, r *rest.Request) (rest.Response, error) {
	id := r.Path("appId")
	if _, err := h.applications.Get(ctx, r.Principal.Tenant, id); err != nil {
		return rest.Response{}, err
	}
	list, err := h.applications.Versions(ctx, r.Principal.Tenant, id)
	if err != nil {
		return rest.Response{}, err
	}
	out := make([]spec.AppVersion, len(list))
	for i, v := range list {
		out[i] = spec.AppVersion{
			Version: v.Name, AppKey: signature.EncodeBase64(v.Key[:]), Supported: v.Supported, MasterKeyGeneration: v.MasterGeneration,
		}
	}
	return rest.OK(spec.VersionList{Versions: out}), nil
}

// createVersion is PA-X-17.
func (h *handlers) createVersion(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.CreateVersion](r)
	if err != nil {
		return rest.Response{}, err
	}
	id := r.Path("appId")
	v, err := h.applications.CreateVersion(ctx, r.Principal.Tenant, app.VersionParams{App: id, Name: body.Version, Actor: r.Principal.Name})
	if err != nil {
		return rest.Response{}, err
	}
	d, err := h.applications.Detail(ctx, r.Principal.Tenant, id, v.Name)
	if err != nil {
		return rest.Response{}, err
	}
	return rest.OK(spec.VersionCreated{
		Version: v.Name, AppKey: signature.EncodeBase64(v.Key[:]), AppSecret: string(v.Secret.Reveal()),
		MasterServerPublicKey: signature.EncodeBase64(d.MasterPublic), MasterKeyGeneration: v.MasterGeneration,
	}), nil
}

// changeVersion is PA-X-18.
func (h *handlers) changeVersion(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[struct {
		Supported *bool `json:"supported"`
	}](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	present(&c, "supported", body.Supported != nil)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	change := h.applications.Unsupport
	if *body.Supported {
		change = h.applications.Support
	}
	return done, change(ctx, r.Principal.Tenant, app.VersionParams{App: r.Path("appId"), Name: r.Path("version"), Actor: r.Principal.Name})
}

// rotateMaster is PA-X-19.
func (h *handlers) rotateMaster(ctx context.Context, r *rest.Request) (rest.Response, error) {
	a, err := h.applications.RotateMaster(ctx, r.Principal.Tenant, app.RotateParams{App: r.Path("appId"), Actor: r.Principal.Name})
	if err != nil {
		return rest.Response{}, err
	}
	return rest.OK(spec.MasterKey{
		MasterServerPublicKey: signature.EncodeBase64(a.MasterPublic), MasterKeyGeneration: a.MasterGeneration,
	}), nil
}
