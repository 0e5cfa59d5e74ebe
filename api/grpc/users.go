package grpc

import (
	"context"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/signetv1"
)

// Users is the part of *access.Basic that makes integration users, for the
// administrator who asks: the name stands in the audit log.
type Users interface {
	By(actor string) *access.Basic
}

type users struct {
	signetv1.UnimplementedUserServiceServer
	domain       Users
	applications Applications
}

func (s users) CreateUser(ctx context.Context, req *signetv1.CreateUserRequest) (*signetv1.CreateUserResponse, error) {
	p := principal(ctx)
	password, err := s.domain.By(p.Name).Create(ctx, p.Tenant, access.NewCredential{Username: req.GetUsername(), Role: access.PAIntegration})
	if err != nil {
		return nil, err
	}
	defer password.Wipe()
	return &signetv1.CreateUserResponse{Username: req.GetUsername(), Password: string(password.Reveal())}, nil
}

func (s users) GrantApplication(ctx context.Context, req *signetv1.GrantApplicationRequest) (*signetv1.GrantApplicationResponse, error) {
	p := principal(ctx)
	if _, err := s.applications.Get(ctx, p.Tenant, req.GetApplication()); err != nil {
		return nil, err
	}
	return &signetv1.GrantApplicationResponse{}, s.domain.By(p.Name).Grant(ctx, p.Tenant, req.GetUsername(), req.GetApplication())
}
