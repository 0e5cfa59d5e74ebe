package ast

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/signet-hsm/signet/api/ast/internal/spec"
	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/ca/sdkconfig"
)

// sdkConfigBody has room for 50 certificates of a usual size.
const maxSDKConfigBody = 512 << 10

// sdkConfigBody is the contract's CreateSdkConfig; its certificates are plain texts
// here. The vendor's own client also sends the tenant, which the path has already.
type sdkConfigBody struct {
	TLSBundle []string            `json:"tlsBundle"`
	ASTURL    *string             `json:"astUrl"`
	Services  []spec.ServiceEntry `json:"services"`
	Tenant    jsontext.Value      `json:"tenant"`
}

// createSDKConfig is CA-14.
func (h *handlers) createSDKConfig(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[sdkConfigBody](r, "tenant")
	if err != nil {
		return rest.Response{}, err
	}
	order := sdkconfig.Request{TLSBundle: body.TLSBundle, Actor: r.Principal.Name, Services: make([]sdkconfig.Service, len(body.Services))}
	if body.ASTURL != nil {
		var c rest.Check
		c.Length("astUrl", *body.ASTURL, 1, maxPage) // the domain has the upper bound and the pattern
		if err := c.Err(); err != nil {
			return rest.Response{}, err
		}
		order.ASTURL = *body.ASTURL
	}
	for i, s := range body.Services {
		order.Services[i] = sdkconfig.Service{Name: s.Name, URL: s.Url}
	}
	jwt, err := h.sdkConfigs.Create(ctx, r.Principal.Tenant, order)
	if err != nil {
		return rest.Response{}, err
	}
	return rest.OK(spec.SdkConfig{SdkConfig: jwt}), nil
}
