package grpc

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca"
)

type signers struct {
	signetv1.UnimplementedSignerServiceServer
	authority Authority
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
	page := ca.Page{Number: int(req.GetPage()), Size: int(req.GetPageSize())}
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
