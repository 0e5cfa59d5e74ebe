package ast

import (
	"context"
	"fmt"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/ast/internal/spec"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/tenant"
)

// renewCertificate is CA-X-03, ours. The caller is who holds the key of the
// certificate that it showed in the TLS handshake, so the route is Public for the
// frame, which knows tokens only. What the certificate is worth is judged anew for
// each request, by the record: a connection or TLS session may be older than a
// revocation.
func (h *handlers) renewCertificate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	peer := r.PeerCertificate()
	if peer == nil {
		return rest.Response{}, fmt.Errorf("%w: no client certificate", access.ErrUnauthenticated)
	}
	t, err := tenant.Parse(r.Path("tenantId"))
	if err != nil { // nobody's: told as one that the certificate is not of
		return rest.Response{}, fmt.Errorf("%w: %v", ca.ErrPeer, err)
	}
	body, err := rest.Decode[spec.RenewCertificate](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	order := ca.RenewDevice{Peer: peer, CSR: decodeCSR(&c, body.Csr)}
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	made, err := h.signers.RenewDevice(ctx, t, order)
	if err != nil {
		return rest.Response{}, err
	}
	return issued(t, made), nil
}
