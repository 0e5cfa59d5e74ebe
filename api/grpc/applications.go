package grpc

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/app"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// Applications is the part of *app.Registry that ApplicationService and
// UserService call.
type Applications interface {
	Create(ctx context.Context, t tenant.ID, p app.CreateParams) (app.Application, app.Version, error)
	Get(ctx context.Context, t tenant.ID, id string) (app.Application, error)
	List(ctx context.Context, t tenant.ID) ([]app.Application, error)
	Detail(ctx context.Context, t tenant.ID, id, version string) (app.Detail, error)
	AddRoles(ctx context.Context, t tenant.ID, p app.RoleParams) error
	RemoveRoles(ctx context.Context, t tenant.ID, p app.RoleParams) error
	CreateVersion(ctx context.Context, t tenant.ID, p app.VersionParams) (app.Version, error)
	Versions(ctx context.Context, t tenant.ID, id string) ([]app.Version, error)
	Support(ctx context.Context, t tenant.ID, p app.VersionParams) error
	Unsupport(ctx context.Context, t tenant.ID, p app.VersionParams) error
	RotateMaster(ctx context.Context, t tenant.ID, p app.RotateParams) (app.Application, error)
}

type applications struct {
	signetv1.UnimplementedApplicationServiceServer
	domain     Applications
	push       Push   // nil: no call sets a credential
	serviceURL string // where phones find the service
}

func (s applications) CreateApplication(ctx context.Context, req *signetv1.CreateApplicationRequest) (*signetv1.CreateApplicationResponse, error) {
	p := principal(ctx)
	a, v, err := s.domain.Create(ctx, p.Tenant, app.CreateParams{ID: req.GetApplication(), Roles: req.GetRoles(), Actor: p.Name})
	if err != nil {
		return nil, err
	}
	return &signetv1.CreateApplicationResponse{Detail: s.detail(app.Detail{Application: a, Version: v, MasterPublic: a.MasterPublic})}, nil
}

func (s applications) ListApplications(ctx context.Context, _ *signetv1.ListApplicationsRequest) (*signetv1.ListApplicationsResponse, error) {
	list, err := s.domain.List(ctx, principal(ctx).Tenant)
	if err != nil {
		return nil, err
	}
	resp := &signetv1.ListApplicationsResponse{}
	for _, a := range list {
		resp.Applications = append(resp.Applications, applicationInfo(a))
	}
	return resp, nil
}

func (s applications) GetApplication(ctx context.Context, req *signetv1.GetApplicationRequest) (*signetv1.GetApplicationResponse, error) {
	d, err := s.domain.Detail(ctx, principal(ctx).Tenant, req.GetApplication(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	return &signetv1.GetApplicationResponse{Detail: s.detail(d)}, nil
}

func (s applications) AddRoles(ctx context.Context, req *signetv1.AddRolesRequest) (*signetv1.AddRolesResponse, error) {
	p := principal(ctx)
	err := s.domain.AddRoles(ctx, p.Tenant, app.RoleParams{App: req.GetApplication(), Roles: req.GetRoles(), Actor: p.Name})
	return &signetv1.AddRolesResponse{}, err
}

func (s applications) RemoveRoles(ctx context.Context, req *signetv1.RemoveRolesRequest) (*signetv1.RemoveRolesResponse, error) {
	p := principal(ctx)
	err := s.domain.RemoveRoles(ctx, p.Tenant, app.RoleParams{App: req.GetApplication(), Roles: req.GetRoles(), Actor: p.Name})
	return &signetv1.RemoveRolesResponse{}, err
}

func (s applications) CreateVersion(ctx context.Context, req *signetv1.CreateVersionRequest) (*signetv1.CreateVersionResponse, error) {
	p := principal(ctx)
	v, err := s.domain.CreateVersion(ctx, p.Tenant, app.VersionParams{App: req.GetApplication(), Name: req.GetVersion(), Actor: p.Name})
	if err != nil {
		return nil, err
	}
	return &signetv1.CreateVersionResponse{Version: versionOf(v, true)}, nil
}

func (s applications) ListVersions(ctx context.Context, req *signetv1.ListVersionsRequest) (*signetv1.ListVersionsResponse, error) {
	p := principal(ctx)
	if _, err := s.domain.Get(ctx, p.Tenant, req.GetApplication()); err != nil {
		return nil, err
	}
	list, err := s.domain.Versions(ctx, p.Tenant, req.GetApplication())
	if err != nil {
		return nil, err
	}
	resp := &signetv1.ListVersionsResponse{}
	for _, v := range list {
		resp.Versions = append(resp.Versions, versionOf(v, false))
	}
	return resp, nil
}

func (s applications) SetVersionSupport(ctx context.Context, req *signetv1.SetVersionSupportRequest) (*signetv1.SetVersionSupportResponse, error) {
	p := principal(ctx)
	set := s.domain.Unsupport
	if req.GetSupported() {
		set = s.domain.Support
	}
	err := set(ctx, p.Tenant, app.VersionParams{App: req.GetApplication(), Name: req.GetVersion(), Actor: p.Name})
	return &signetv1.SetVersionSupportResponse{}, err
}

func (s applications) RotateMasterKey(ctx context.Context, req *signetv1.RotateMasterKeyRequest) (*signetv1.RotateMasterKeyResponse, error) {
	p := principal(ctx)
	a, err := s.domain.RotateMaster(ctx, p.Tenant, app.RotateParams{App: req.GetApplication(), Actor: p.Name})
	if err != nil {
		return nil, err
	}
	return &signetv1.RotateMasterKeyResponse{Info: applicationInfo(a), MasterPublicKey: signature.EncodeBase64(a.MasterPublic)}, nil
}

func (s applications) detail(d app.Detail) *signetv1.ApplicationDetail {
	return &signetv1.ApplicationDetail{
		Info: applicationInfo(d.Application), Version: versionOf(d.Version, true),
		MasterPublicKey: signature.EncodeBase64(d.MasterPublic), ServiceBaseUrl: s.serviceURL,
	}
}

func applicationInfo(a app.Application) *signetv1.ApplicationInfo {
	return &signetv1.ApplicationInfo{
		Application: a.ID, Roles: a.Roles, CreatedAt: timestamppb.New(a.CreatedAt), MasterKeyGeneration: int32(a.MasterGeneration),
	}
}

func versionOf(v app.Version, secret bool) *signetv1.ApplicationVersion {
	m := &signetv1.ApplicationVersion{
		Name: v.Name, AppKey: signature.EncodeBase64(v.Key[:]), Supported: v.Supported, MasterKeyGeneration: int32(v.MasterGeneration),
	}
	if secret {
		m.AppSecret = string(v.Secret.Reveal())
	}
	return m
}
