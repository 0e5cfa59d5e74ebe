package ast

import (
	"context"
	"net/http"

	"github.com/signet-hsm/signet/api/ast/internal/spec"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/revocation"
)

// The later life of a signer. v1 knows the current one only.

// deleteSigner is CA-08.
func (h *handlers) deleteSigner(ctx context.Context, r *rest.Request) (rest.Response, error) {
	name, err := signerSpec(r)
	if err != nil {
		return rest.Response{}, err
	}
	return h.dropSigner(ctx, r, name)
}

// deleteSignerV1 is CA-04.
func (h *handlers) deleteSignerV1(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return h.dropSigner(ctx, r, ca.Current)
}

func (h *handlers) dropSigner(ctx context.Context, r *rest.Request, name string) (rest.Response, error) {
	err := h.signers.DeleteSigner(ctx, r.Principal.Tenant, ca.DeleteSigner{Spec: name, Actor: r.Principal.Name})
	return rest.Response{Status: http.StatusNoContent}, err
}

// renewSigner is CA-10.
func (h *handlers) renewSigner(ctx context.Context, r *rest.Request) (rest.Response, error) {
	name, err := signerSpec(r)
	if err != nil {
		return rest.Response{}, err
	}
	return h.recertifySigner(ctx, r, name)
}

// reissueSignerV1 is CA-03.
func (h *handlers) reissueSignerV1(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return h.recertifySigner(ctx, r, ca.Current)
}

func (h *handlers) recertifySigner(ctx context.Context, r *rest.Request, name string) (rest.Response, error) {
	body, err := rest.DecodeOptional[spec.RenewSigner](r)
	if err != nil {
		return rest.Response{}, err
	}
	s, err := h.signers.RenewSigner(ctx, r.Principal.Tenant, ca.RenewSigner{
		Spec: name, IgnoreNotIssued: body.IgnoreNotIssued != nil && *body.IgnoreNotIssued, Actor: r.Principal.Name,
	})
	if err != nil {
		return rest.Response{}, err
	}
	return rest.Response{Status: http.StatusAccepted, Body: signerBody(s)}, nil
}

// revokeSigner is CA-11. The contract has no place for a reason.
func (h *handlers) revokeSigner(ctx context.Context, r *rest.Request) (rest.Response, error) {
	name, err := signerSpec(r)
	if err != nil {
		return rest.Response{}, err
	}
	err = h.signers.RevokeSigner(ctx, r.Principal.Tenant, ca.RevokeSigner{Spec: name, Reason: revocation.Unspecified, Actor: r.Principal.Name})
	return rest.Response{Status: http.StatusNoContent}, err
}
