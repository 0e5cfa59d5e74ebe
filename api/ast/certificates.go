package ast

import (
	"context"

	"github.com/signet-hsm/signet/api/ast/internal/spec"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/ca"
)

// listCertificates is CA-12.
func (h *handlers) listCertificates(ctx context.Context, r *rest.Request) (rest.Response, error) {
	p, err := page(r)
	if err != nil {
		return rest.Response{}, err
	}
	certificates, total, err := h.signers.ListCertificates(ctx, r.Principal.Tenant, p)
	if err != nil {
		return rest.Response{}, err
	}
	list := make([]spec.CertificateInfo, len(certificates))
	for i, c := range certificates {
		list[i] = certificateBody(c)
	}
	return listed(list, total), nil
}

// getCertificate is CA-13.
func (h *handlers) getCertificate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	ref, err := certRef(r)
	if err != nil {
		return rest.Response{}, err
	}
	c, err := h.signers.CertificateInfo(ctx, r.Principal.Tenant, ref)
	if err != nil {
		return rest.Response{}, err
	}
	return rest.OK(certificateBody(c)), nil
}

func certificateBody(c ca.CertificateInfo) spec.CertificateInfo {
	body := spec.CertificateInfo{
		CertRef: c.Ref, Status: spec.CertificateStatus(c.Status), CertProfile: spec.CertificateProfile(c.Profile), RequestedAt: c.RequestedAt,
		Signer: optional(c.Signer), User: optional(c.User), Client: optional(c.Client),
	}
	if !c.IssuedAt.IsZero() {
		body.IssuedAt = &c.IssuedAt
	}
	return body
}

// optional is a text that is left out when it is empty.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// certRef is the path's certificate.
func certRef(r *rest.Request) (string, error) {
	ref := r.Path("certRef")
	if isULID(ref) {
		return ref, nil
	}
	var c rest.Check
	c.Fail("certRef", nil, "must be the reference of a certificate request")
	return "", c.Err()
}
