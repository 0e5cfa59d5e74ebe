package ast

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/signet-hsm/signet/api/ast/internal/spec"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/tenant"
)

// issueCertificate is CA-X-01, ours: the seed only has the status of such requests.
func (h *handlers) issueCertificate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.IssueCertificate](r)
	if err != nil {
		return rest.Response{}, err
	}
	order := ca.IssueRequest{Profile: string(spec.IssueCertificateProfileASTDEVICE), User: body.User, Client: body.Client, Actor: r.Principal.Name}
	var c rest.Check
	order.CSR = decodeCSR(&c, body.Csr)
	if p := body.Profile; p != nil {
		rest.OneOf(&c, "profile", *p, spec.IssueCertificateProfileASTDEVICE, spec.IssueCertificateProfileSIGNATURE)
		order.Profile = string(*p)
	}
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	made, err := h.signers.Issue(ctx, r.Principal.Tenant, order)
	if err != nil {
		return rest.Response{}, err
	}
	return issued(r.Principal.Tenant, made), nil
}

func issued(t tenant.ID, made ca.Certificate) rest.Response {
	answer := spec.IssuedCertificate{
		CertRef: made.Ref, Certificate: base64.StdEncoding.EncodeToString(made.DER), Chain: make([]string, len(made.Chain)),
		NotBefore: made.NotBefore.UTC(), NotAfter: made.NotAfter.UTC(),
	}
	for i, der := range made.Chain {
		answer.Chain[i] = base64.StdEncoding.EncodeToString(der)
	}
	return rest.Created("/v1/tenants/"+t.String()+"/certificates/admin/"+made.Ref, answer)
}

// decodeCSR notes what is wrong with a request's outer form.
func decodeCSR(c *rest.Check, csr string) []byte {
	der, err := base64.StdEncoding.Strict().DecodeString(csr)
	if err != nil || len(der) == 0 {
		c.Fail("csr", nil, "must be a certificate request in base64")
	}
	return der
}

// revokeCertificate is CA-X-02, ours.
func (h *handlers) revokeCertificate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	ref, err := certRef(r)
	if err != nil {
		return rest.Response{}, err
	}
	body, err := rest.DecodeOptional[spec.RevokeCertificate](r)
	if err != nil {
		return rest.Response{}, err
	}
	order := ca.RevokeCertificate{Ref: ref, Reason: revocation.Unspecified, Actor: r.Principal.Name}
	if body.Reason != nil {
		if order.Reason, err = revocation.ParseReason(string(*body.Reason)); err != nil || !body.Reason.Valid() {
			var c rest.Check
			c.Fail("reason", nil, "must be a reason for which a device's certificate is revoked")
			return rest.Response{}, c.Err()
		}
	}
	return rest.Response{Status: http.StatusNoContent}, h.signers.RevokeCertificate(ctx, r.Principal.Tenant, order)
}
