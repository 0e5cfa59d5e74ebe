package grpc

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/tenant"
)

type signers struct {
	signetv1.UnimplementedSignerServiceServer
	authority Authority
	operator  tenant.ID // whose administrators act for all tenants
}

func (s signers) CreateSigner(ctx context.Context, req *signetv1.CreateSignerRequest) (*signetv1.CreateSignerResponse, error) {
	p := principal(ctx)
	made, err := s.authority.CreateSigner(ctx, p.Tenant, ca.CreateSigner{Name: req.GetName(), Actor: p.Name})
	if err != nil {
		return nil, err
	}
	return &signetv1.CreateSignerResponse{Signer: signer(made, true)}, nil
}

func (s signers) GetSigner(ctx context.Context, req *signetv1.GetSignerRequest) (*signetv1.GetSignerResponse, error) {
	if req.GetSigner() == "" {
		return nil, missing("signer")
	}
	found, err := s.authority.Signer(ctx, principal(ctx).Tenant, req.GetSigner())
	if err != nil {
		return nil, err
	}
	return &signetv1.GetSignerResponse{Signer: signer(found, true)}, nil
}

func (s signers) ListSigners(ctx context.Context, req *signetv1.ListSignersRequest) (*signetv1.ListSignersResponse, error) {
	page := ca.Page{Number: int(req.GetPage()), Size: int(req.GetPageSize()), Filter: req.GetFilter()}
	list, total, err := s.authority.ListSigners(ctx, principal(ctx).Tenant, page)
	if err != nil {
		return nil, err
	}
	resp := &signetv1.ListSignersResponse{Total: int64(total)}
	for _, one := range list {
		resp.Signers = append(resp.Signers, signer(one, false))
	}
	return resp, nil
}

func (s signers) DeleteSigner(ctx context.Context, req *signetv1.DeleteSignerRequest) (*signetv1.DeleteSignerResponse, error) {
	if req.GetSigner() == "" {
		return nil, missing("signer")
	}
	p := principal(ctx)
	if err := s.authority.DeleteSigner(ctx, p.Tenant, ca.DeleteSigner{Spec: req.GetSigner(), Actor: p.Name}); err != nil {
		return nil, err
	}
	return &signetv1.DeleteSignerResponse{}, nil
}

func (s signers) GetSignerChain(ctx context.Context, req *signetv1.GetSignerChainRequest) (*signetv1.GetSignerChainResponse, error) {
	if req.GetSigner() == "" {
		return nil, missing("signer")
	}
	chain, err := s.authority.Chain(ctx, principal(ctx).Tenant, req.GetSigner())
	if err != nil {
		return nil, err
	}
	return &signetv1.GetSignerChainResponse{Chain: chain}, nil
}

func (s signers) GetSignerPaths(ctx context.Context, req *signetv1.GetSignerPathsRequest) (*signetv1.GetSignerPathsResponse, error) {
	if req.GetSigner() == "" {
		return nil, missing("signer")
	}
	paths, err := s.authority.Paths(ctx, principal(ctx).Tenant, req.GetSigner())
	if err != nil {
		return nil, err
	}
	resp := &signetv1.GetSignerPathsResponse{}
	for _, chain := range paths {
		resp.Paths = append(resp.Paths, &signetv1.SignerPath{Chain: chain})
	}
	return resp, nil
}

func (s signers) RenewSigner(ctx context.Context, req *signetv1.RenewSignerRequest) (*signetv1.RenewSignerResponse, error) {
	if req.GetSigner() == "" {
		return nil, missing("signer")
	}
	p := principal(ctx)
	renewed, err := s.authority.RenewSigner(ctx, p.Tenant, ca.RenewSigner{
		Spec: req.GetSigner(), IgnoreNotIssued: req.GetIgnoreNotIssued(), Actor: p.Name,
	})
	if err != nil {
		return nil, err
	}
	return &signetv1.RenewSignerResponse{Signer: signer(renewed, true)}, nil
}

func (s signers) RenewAllSigners(ctx context.Context, _ *signetv1.RenewAllSignersRequest) (*signetv1.RenewAllSignersResponse, error) {
	p := principal(ctx)
	if s.operator.IsZero() || p.Tenant != s.operator {
		return nil, fmt.Errorf("%w: it concerns all tenants", access.ErrForbidden)
	}
	part, cancel := portion(ctx)
	defer cancel()
	done, err := s.authority.RenewAll(part, ca.RenewAll{Actor: p.Name})
	complete, err := partly(ctx, part, done.Renewed+done.Queued+done.Failed, err)
	if err != nil {
		return nil, err
	}
	return &signetv1.RenewAllSignersResponse{
		Renewed: int64(done.Renewed), Queued: int64(done.Queued), Failed: int64(done.Failed), Complete: complete,
	}, nil
}

var signerStates = map[ca.State]signetv1.SignerState{
	ca.Active:  signetv1.SignerState_SIGNER_STATE_ACTIVE,
	ca.Retired: signetv1.SignerState_SIGNER_STATE_RETIRED,
	ca.Revoked: signetv1.SignerState_SIGNER_STATE_REVOKED,
}

func signer(s ca.Signer, certificate bool) *signetv1.Signer {
	out := &signetv1.Signer{
		Id: s.ID, Tenant: s.Tenant.String(), Name: s.Name, Generation: int32(s.Generation), State: signerStates[s.State],
		CreatedAt: timestamppb.New(s.CreatedAt), UpdatedAt: timestamppb.New(s.UpdatedAt),
	}
	if certificate {
		out.Certificate = s.Certificate
	}
	return out
}
