package powerauth

import (
	"context"
	"errors"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// Applications is the part of *app.Registry that the dialect calls.
type Applications interface {
	Create(ctx context.Context, t tenant.ID, p app.CreateParams) (app.Application, app.Version, error)
	Get(ctx context.Context, t tenant.ID, id string) (app.Application, error)
	List(ctx context.Context, t tenant.ID) ([]app.Application, error)
	Detail(ctx context.Context, t tenant.ID, id, version string) (app.Detail, error)
	AddRoles(ctx context.Context, t tenant.ID, p app.RoleParams) error
	RemoveRoles(ctx context.Context, t tenant.ID, p app.RoleParams) error
	Versions(ctx context.Context, t tenant.ID, id string) ([]app.Version, error)
	CreateVersion(ctx context.Context, t tenant.ID, p app.VersionParams) (app.Version, error)
	Support(ctx context.Context, t tenant.ID, p app.VersionParams) error
	Unsupport(ctx context.Context, t tenant.ID, p app.VersionParams) error
	RotateMaster(ctx context.Context, t tenant.ID, p app.RotateParams) (app.Application, error)
}

// Users is the part of *access.Basic that makes integration users, for the
// administrator who asks: the name stands in the audit log.
type Users interface {
	By(actor string) *access.Basic
}

// createApplication is PA-ADM-01.
func (h *handlers) createApplication(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.CreateApplication](r)
	if err != nil {
		return rest.Response{}, err
	}
	a, v, err := h.applications.Create(ctx, r.Principal.Tenant, app.CreateParams{
		ID: body.Id, Roles: value(body.Roles, nil), Actor: r.Principal.Name,
	})
	if err != nil {
		return rest.Response{}, err
	}
	return rest.OK(h.applicationBody(a, v)), nil
}

// listApplications is PA-ADM-02.
func (h *handlers) listApplications(ctx context.Context, r *rest.Request) (rest.Response, error) {
	list, err := h.applications.List(ctx, r.Principal.Tenant)
	if err != nil {
		return rest.Response{}, err
	}
	type item = struct {
		Id *string `json:"id,omitempty"`
	}
	items := make([]item, len(list))
	for i := range list {
		items[i].Id = &list[i].ID
	}
	return rest.OK(spec.ApplicationList{Applications: items}), nil
}

// getApplication is PA-ADM-03.
func (h *handlers) getApplication(ctx context.Context, r *rest.Request) (rest.Response, error) {
	var c rest.Check
	id, _ := c.Query(r, "id")
	c.Length("id", id, 1, 255)
	version, _ := c.Query(r, "version")
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	d, err := h.applications.Detail(ctx, r.Principal.Tenant, id, version)
	if err != nil {
		return rest.Response{}, err
	}
	d.Application.MasterPublic = d.MasterPublic
	return rest.OK(h.applicationBody(d.Application, d.Version)), nil
}

func (h *handlers) applicationBody(a app.Application, v app.Version) spec.ApplicationDetail {
	return spec.ApplicationDetail{
		Id: a.ID, ServiceBaseUrl: h.serviceURL, Roles: a.Roles,
		AppKey: signature.EncodeBase64(v.Key[:]), AppSecret: string(v.Secret.Reveal()),
		MasterServerPublicKey: signature.EncodeBase64(a.MasterPublic),
	}
}

// addRoles is PA-ADM-04.
func (h *handlers) addRoles(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return roles(ctx, r, h.applications.AddRoles)
}

// removeRoles is PA-ADM-05, a DELETE with a body as in the seed.
func (h *handlers) removeRoles(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return roles(ctx, r, h.applications.RemoveRoles)
}

func roles(ctx context.Context, r *rest.Request, change func(context.Context, tenant.ID, app.RoleParams) error) (rest.Response, error) {
	body, err := rest.Decode[spec.ApplicationRoles](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	present(&c, "roles", body.Roles != nil)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	err = change(ctx, r.Principal.Tenant, app.RoleParams{App: body.Id, Roles: body.Roles, Actor: r.Principal.Name})
	if errors.Is(err, app.ErrNotFound) { // the calls have no other error
		err = rest.ErrRequest.With(fault.Violation{Field: "id", Hint: "must be a known application"})
	}
	return done, err
}

// createUser is PA-X-01.
func (h *handlers) createUser(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.CreateUser](r)
	if err != nil {
		return rest.Response{}, err
	}
	password, err := h.users.By(r.Principal.Name).Create(ctx, r.Principal.Tenant, access.NewCredential{Username: body.Username, Role: access.PAIntegration})
	if err != nil {
		return rest.Response{}, err
	}
	return rest.OK(spec.UserCreated{Username: body.Username, Password: string(password.Reveal())}), nil
}

// grantApplication is PA-X-02.
func (h *handlers) grantApplication(ctx context.Context, r *rest.Request) (rest.Response, error) {
	id := r.Path("appId")
	if _, err := h.applications.Get(ctx, r.Principal.Tenant, id); err != nil {
		return rest.Response{}, err
	}
	return done, h.users.By(r.Principal.Name).Grant(ctx, r.Principal.Tenant, r.Path("username"), id)
}
