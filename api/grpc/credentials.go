package grpc

import (
	"context"
	"encoding/base64"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/push"
)

// environments: a number without a name is no environment, which the domain
// refuses.
var environments = map[signetv1.ApnsEnvironment]string{
	signetv1.ApnsEnvironment_APNS_ENVIRONMENT_UNSPECIFIED: "production",
	signetv1.ApnsEnvironment_APNS_ENVIRONMENT_PRODUCTION:  "production",
	signetv1.ApnsEnvironment_APNS_ENVIRONMENT_DEVELOPMENT: "development",
}

var errNoPush = status.Error(codes.Unimplemented, "this server does not push")

func (s applications) SetApnsCredential(ctx context.Context, req *signetv1.SetApnsCredentialRequest) (*signetv1.SetApnsCredentialResponse, error) {
	p := principal(ctx)
	if s.push == nil {
		return nil, errNoPush
	}
	environment, ok := environments[req.GetEnvironment()]
	if !ok {
		return nil, bad("environment", "must be PRODUCTION or DEVELOPMENT")
	}
	return &signetv1.SetApnsCredentialResponse{}, s.push.SetAPNs(ctx, p.Tenant, push.APNsCredential{
		App: req.GetApplication(), Topic: req.GetTopic(), KeyID: req.GetKeyId(), TeamID: req.GetTeamId(),
		Environment: environment, PrivateKey: encoded(req.GetPrivateKey()), Actor: p.Name,
	})
}

func (s applications) SetFcmCredential(ctx context.Context, req *signetv1.SetFcmCredentialRequest) (*signetv1.SetFcmCredentialResponse, error) {
	p := principal(ctx)
	if s.push == nil {
		return nil, errNoPush
	}
	return &signetv1.SetFcmCredentialResponse{}, s.push.SetFCM(ctx, p.Tenant, push.FCMCredential{
		App: req.GetApplication(), ProjectID: req.GetProjectId(), PrivateKey: encoded(req.GetPrivateKey()), Actor: p.Name,
	})
}

func (s applications) SetHmsCredential(ctx context.Context, req *signetv1.SetHmsCredentialRequest) (*signetv1.SetHmsCredentialResponse, error) {
	p := principal(ctx)
	if s.push == nil {
		return nil, errNoPush
	}
	err := s.push.SetHMS(ctx, p.Tenant, push.HMSCredential{
		App: req.GetApplication(), HMSAppID: req.GetHmsAppId(), ClientSecret: secret.New([]byte(req.GetClientSecret())), Actor: p.Name,
	})
	return &signetv1.SetHmsCredentialResponse{}, renamed(err, "appId", "hms_app_id") // Huawei's, not ours
}

// encoded is a file as the domain takes it.
func encoded(file []byte) secret.Bytes {
	return secret.New(base64.StdEncoding.AppendEncode(nil, file))
}

// renamed tells of a broken rule under another name.
func renamed(err error, from, to string) error {
	f := fault.Of(err)
	if f == nil || len(f.Violations) == 0 {
		return err
	}
	c := *f
	c.Violations = nil
	for _, v := range f.Violations {
		if v.Field == from {
			v.Field = to
		}
		c.Violations = append(c.Violations, v)
	}
	return fmt.Errorf("%w: %w", &c, err)
}
