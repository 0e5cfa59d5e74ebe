package grpc

import (
	"context"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca"
)

type certificates struct {
	signetv1.UnimplementedCertificateServiceServer
	authority Authority
}

func (s certificates) IssueCertificate(ctx context.Context, req *signetv1.IssueCertificateRequest) (*signetv1.IssueCertificateResponse, error) {
	if req.GetOrder() == nil {
		return nil, missing("order")
	}
	issued, err := s.issue(ctx, principal(ctx), req.GetOrder())
	if err != nil {
		return nil, err
	}
	return &signetv1.IssueCertificateResponse{Issued: issued}, nil
}

// issue serves one order; a batch call will repeat it.
func (s certificates) issue(ctx context.Context, p access.Principal, o *signetv1.CertificateOrder) (*signetv1.IssuedCertificate, error) {
	c, err := s.authority.IssueDevice(ctx, p.Tenant, ca.IssueRequest{CSR: o.GetCsr(), User: o.GetUser(), Client: o.GetClient(), Actor: p.Name})
	if err != nil {
		return nil, err
	}
	return &signetv1.IssuedCertificate{CertRef: c.Ref, Serial: c.Serial.String(), Certificate: c.DER, Chain: c.Chain}, nil
}
