package ast

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/ca"
	"github.com/signet-hsm/signet/ca/sdkconfig"
	"github.com/signet-hsm/signet/tenant"
)

// Signers is the part of *ca.Authority that the dialect calls.
type Signers interface {
	CreateSigner(ctx context.Context, t tenant.ID, r ca.CreateSigner) (ca.Signer, error)
	Signer(ctx context.Context, t tenant.ID, spec string) (ca.Signer, error)
	ListSigners(ctx context.Context, t tenant.ID, p ca.Page) ([]ca.Signer, int, error)
	Chain(ctx context.Context, t tenant.ID, spec string) ([][]byte, error)
	DeleteSigner(ctx context.Context, t tenant.ID, r ca.DeleteSigner) error
	RenewSigner(ctx context.Context, t tenant.ID, r ca.RenewSigner) (ca.Signer, error)
	RevokeSigner(ctx context.Context, t tenant.ID, r ca.RevokeSigner) error
	Issue(ctx context.Context, t tenant.ID, r ca.IssueRequest) (ca.Certificate, error)
	RenewDevice(ctx context.Context, t tenant.ID, r ca.RenewDevice) (ca.Certificate, error)
	RevokeCertificate(ctx context.Context, t tenant.ID, r ca.RevokeCertificate) error
	ListCertificates(ctx context.Context, t tenant.ID, p ca.Page) ([]ca.CertificateInfo, int, error)
	CertificateInfo(ctx context.Context, t tenant.ID, ref string) (ca.CertificateInfo, error)
	SignWithCurrent(ctx context.Context, t tenant.ID, s ca.Statement) (string, error)
}

// Authenticator checks bearer tokens; *access.Realms.
type Authenticator interface {
	Authenticate(ctx context.Context, bearer string) (access.Principal, error)
}

// Config makes an API. Signers and Realms are needed.
type Config struct {
	Signers Signers
	Realms  Authenticator
	Limiter *access.Limiter // of the calls at work of each credential; nil: no bound
	Timeout time.Duration   // of a request; 0: 10 s
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// API is the table of routes.
type API struct {
	rest *rest.API
}

type handlers struct {
	signers    Signers
	sdkConfigs *sdkconfig.Maker
}

// New checks the table.
func New(c Config) (*API, error) {
	if c.Signers == nil || c.Realms == nil {
		return nil, errors.New("ast: signers or realms are missing")
	}
	sdkConfigs, err := sdkconfig.New(sdkconfig.Config{Signer: c.Signers})
	if err != nil {
		return nil, fmt.Errorf("ast: %w", err)
	}
	a, err := rest.New(rest.Config{
		Dialect:  rest.Dialect{Name: "ast", Authenticate: bearer(c.Realms), Problem: problemBody},
		Routes:   routes(&handlers{c.Signers, sdkConfigs}),
		Prefixes: []string{"/v1/tenants", "/v2/tenants"},
		Limiter:  c.Limiter, Timeout: c.Timeout, Logger: c.Logger, Metrics: c.Metrics,
	})
	if err != nil {
		return nil, err
	}
	return &API{a}, nil
}

// Mount registers the routes, and the prefixes for unknown URLs below them.
func (a *API) Mount(mux *http.ServeMux) { a.rest.Mount(mux) }

func routes(h *handlers) []rest.Route {
	read, write := access.Any(access.AdminRead), access.Any(access.AdminWrite)
	readOrClient := access.Any(access.AdminRead, access.ASTClient)
	return []rest.Route{
		{ID: "CA-01", Method: "GET", Pattern: "/v1/tenants/{tenantId}/signers", Allow: read, Handler: h.getSignerV1},
		{ID: "CA-02", Method: "POST", Pattern: "/v1/tenants/{tenantId}/signers", Allow: write, Handler: h.createSignerV1},
		{ID: "CA-03", Method: "POST", Pattern: "/v1/tenants/{tenantId}/signers/reissue", Allow: write, Handler: h.reissueSignerV1},
		{ID: "CA-04", Method: "DELETE", Pattern: "/v1/tenants/{tenantId}/signers", Allow: write, Handler: h.deleteSignerV1},
		{ID: "CA-05", Method: "GET", Pattern: "/v2/tenants/{tenant}/signers", Allow: read, Handler: h.listSigners},
		{ID: "CA-06", Method: "POST", Pattern: "/v2/tenants/{tenant}/signers", Allow: write, Handler: h.createSigner},
		{ID: "CA-07", Method: "GET", Pattern: "/v2/tenants/{tenant}/signers/{signerSpec}", Allow: readOrClient, Handler: h.getSigner},
		{ID: "CA-08", Method: "DELETE", Pattern: "/v2/tenants/{tenant}/signers/{signerSpec}", Allow: write, Handler: h.deleteSigner},
		{ID: "CA-09", Method: "GET", Pattern: "/v2/tenants/{tenant}/signers/{signerSpec}/chain", Allow: readOrClient, Handler: h.getSignerChain},
		{ID: "CA-10", Method: "POST", Pattern: "/v2/tenants/{tenant}/signers/{signerSpec}/renew", Allow: write, Handler: h.renewSigner},
		{ID: "CA-11", Method: "POST", Pattern: "/v2/tenants/{tenant}/signers/{signerSpec}/revoke", Allow: write, Handler: h.revokeSigner},
		{ID: "CA-12", Method: "GET", Pattern: "/v1/tenants/{tenantId}/certificates/admin", Allow: read, Handler: h.listCertificates},
		{ID: "CA-13", Method: "GET", Pattern: "/v1/tenants/{tenantId}/certificates/admin/{certRef}", Allow: read, Handler: h.getCertificate},
		{ID: "CA-14", Method: "POST", Pattern: "/v1/tenants/{tenantId}/sdkconfig", Allow: write, Handler: h.createSDKConfig, MaxBody: maxSDKConfigBody},
		{ID: "CA-X-01", Method: "POST", Pattern: "/v1/tenants/{tenantId}/certificates/admin", Allow: write, Handler: h.issueCertificate},
		{ID: "CA-X-02", Method: "POST", Pattern: "/v1/tenants/{tenantId}/certificates/admin/{certRef}/revoke", Allow: write, Handler: h.revokeCertificate},
		{ID: "CA-X-03", Method: "POST", Pattern: "/v1/tenants/{tenantId}/certificates/renew", Allow: access.Any(access.Public), Handler: h.renewCertificate},
	}
}

func bearer(a Authenticator) func(context.Context, *http.Request) (access.Principal, error) {
	return func(ctx context.Context, r *http.Request) (access.Principal, error) {
		token, ok := rest.AuthorizationOf(r.Header).Bearer()
		if !ok {
			return access.Principal{}, access.ErrUnauthenticated
		}
		return a.Authenticate(ctx, token)
	}
}
