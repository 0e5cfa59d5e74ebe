package grpc

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/ca/sdkconfig"
	"github.com/signet-hsm/signet/fault"
)

type sdkConfigs struct {
	signetv1.UnimplementedSdkConfigServiceServer
	maker *sdkconfig.Maker
}

func (s sdkConfigs) CreateSdkConfig(ctx context.Context, req *signetv1.CreateSdkConfigRequest) (*signetv1.CreateSdkConfigResponse, error) {
	p := principal(ctx)
	order := sdkconfig.Request{ASTURL: req.GetAstUrl(), Actor: p.Name}
	var wrong []fault.Violation
	for i, der := range req.GetTlsBundle() {
		if len(der) == 0 { // the domain's hint would be about base64
			wrong = append(wrong, fault.Violation{Field: fmt.Sprintf("tls_bundle[%d]", i), Hint: "must not be empty"})
		}
		order.TLSBundle = append(order.TLSBundle, base64.StdEncoding.EncodeToString(der))
	}
	if wrong != nil {
		return nil, errRequest.With(wrong...)
	}
	for _, e := range req.GetServices() {
		order.Services = append(order.Services, sdkconfig.Service{Name: e.GetName(), URL: e.GetUrl()})
	}
	jwt, err := s.maker.Create(ctx, p.Tenant, order)
	if err != nil {
		return nil, err
	}
	return &signetv1.CreateSdkConfigResponse{SdkConfig: jwt}, nil
}
