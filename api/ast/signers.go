package ast

import (
	"context"
	"encoding/base64"

	"github.com/signet-hsm/signet/api/ast/internal/spec"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/ca"
)

// listSigners is CA-05.
func (h *handlers) listSigners(ctx context.Context, r *rest.Request) (rest.Response, error) {
	p, err := page(r)
	if err != nil {
		return rest.Response{}, err
	}
	signers, total, err := h.signers.ListSigners(ctx, r.Principal.Tenant, p)
	if err != nil {
		return rest.Response{}, err
	}
	list := make([]spec.Signer, len(signers))
	for i, s := range signers {
		list[i] = signerBody(s)
	}
	return listed(list, total), nil
}

// createSigner is CA-06.
func (h *handlers) createSigner(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.DecodeOptional[spec.CreateSignerV2](r)
	if err != nil {
		return rest.Response{}, err
	}
	return h.makeSigner(ctx, r, body)
}

func (h *handlers) makeSigner(ctx context.Context, r *rest.Request, body spec.CreateSignerV2) (rest.Response, error) {
	order := ca.CreateSigner{Actor: r.Principal.Name}
	if body.Name != nil {
		var c rest.Check
		c.Length("name", *body.Name, 1, maxPage) // the domain has the upper bound
		if err := c.Err(); err != nil {
			return rest.Response{}, err
		}
		order.Name = *body.Name
	}
	s, err := h.signers.CreateSigner(ctx, r.Principal.Tenant, order)
	if err != nil {
		return rest.Response{}, err
	}
	return rest.Created("/v2/tenants/"+s.Tenant.String()+"/signers/"+s.ID, signerBody(s)), nil
}

// getSigner is CA-07.
func (h *handlers) getSigner(ctx context.Context, r *rest.Request) (rest.Response, error) {
	name, err := signerSpec(r)
	if err != nil {
		return rest.Response{}, err
	}
	return h.showSigner(ctx, r, name)
}

func (h *handlers) showSigner(ctx context.Context, r *rest.Request, name string) (rest.Response, error) {
	s, err := h.signers.Signer(ctx, r.Principal.Tenant, name)
	if err != nil {
		return rest.Response{}, err
	}
	body := spec.SignerWithCertificate{Info: signerBody(s)}
	if len(s.Certificate) > 0 {
		cert := base64.StdEncoding.EncodeToString(s.Certificate)
		body.Certificate = &cert
	}
	return rest.OK(body), nil
}

// getSignerChain is CA-09.
func (h *handlers) getSignerChain(ctx context.Context, r *rest.Request) (rest.Response, error) {
	name, err := signerSpec(r)
	if err != nil {
		return rest.Response{}, err
	}
	chain, err := h.signers.Chain(ctx, r.Principal.Tenant, name)
	if err != nil {
		return rest.Response{}, err
	}
	body := spec.SignerChain{Chain: make([]string, len(chain))}
	for i, der := range chain {
		body.Chain[i] = base64.StdEncoding.EncodeToString(der)
	}
	return rest.OK(body), nil
}

func signerBody(s ca.Signer) spec.Signer {
	return spec.Signer{
		Id: s.ID, Tenant: s.Tenant.String(), Name: s.Name, Generation: int32(s.Generation),
		State: spec.SignerState(s.State), CreatedAt: s.CreatedAt.UTC(), UpdatedAt: s.UpdatedAt.UTC(),
	}
}

// signerSpec is the path's signer: an id, or "current".
func signerSpec(r *rest.Request) (string, error) {
	name := r.Path("signerSpec")
	if name == ca.Current || isULID(name) {
		return name, nil
	}
	var c rest.Check
	c.Fail("signerSpec", nil, "must be a signer id or the word current")
	return "", c.Err()
}
