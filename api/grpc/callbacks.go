package grpc

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/callback"
	"github.com/signet-hsm/signet/internal/secret"
	"github.com/signet-hsm/signet/tenant"
)

// Callbacks is the part of *callback.Callbacks that CallbackService calls.
type Callbacks interface {
	Create(ctx context.Context, t tenant.ID, p callback.CreateParams) (callback.Created, error)
	List(ctx context.Context, t tenant.ID, appID string) ([]callback.Endpoint, error)
	Remove(ctx context.Context, t tenant.ID, ref callback.Ref) error
	Rotate(ctx context.Context, t tenant.ID, ref callback.Ref) (secret.Bytes, error)
}

type callbacks struct {
	signetv1.UnimplementedCallbackServiceServer
	domain Callbacks
}

// callbackTypes: a number without a name is no type, which the domain refuses.
var callbackTypes = map[signetv1.CallbackType]callback.Type{
	signetv1.CallbackType_CALLBACK_TYPE_REGISTRATION_STATUS_CHANGE: callback.Registrations,
	signetv1.CallbackType_CALLBACK_TYPE_OPERATION_STATUS_CHANGE:    callback.Operations,
}

func (s callbacks) CreateCallback(ctx context.Context, req *signetv1.CreateCallbackRequest) (*signetv1.CreateCallbackResponse, error) {
	p := principal(ctx)
	if err := granted(p, req.GetApplication()); err != nil {
		return nil, err
	}
	made, err := s.domain.Create(ctx, p.Tenant, callback.CreateParams{
		App: req.GetApplication(), Name: req.GetName(), Type: callbackTypes[req.GetType()], URL: req.GetCallbackUrl(), Actor: p.Name,
	})
	if err != nil {
		return nil, err
	}
	defer made.Secret.Wipe()
	return &signetv1.CreateCallbackResponse{Callback: callbackOf(made.Endpoint), Secret: string(made.Secret.Reveal())}, nil
}

func (s callbacks) ListCallbacks(ctx context.Context, req *signetv1.ListCallbacksRequest) (*signetv1.ListCallbacksResponse, error) {
	p := principal(ctx)
	if err := granted(p, req.GetApplication()); err != nil {
		return nil, err
	}
	list, err := s.domain.List(ctx, p.Tenant, req.GetApplication())
	if err != nil {
		return nil, err
	}
	resp := &signetv1.ListCallbacksResponse{}
	for _, e := range list {
		resp.Callbacks = append(resp.Callbacks, callbackOf(e))
	}
	return resp, nil
}

func (s callbacks) RemoveCallback(ctx context.Context, req *signetv1.RemoveCallbackRequest) (*signetv1.RemoveCallbackResponse, error) {
	p := principal(ctx)
	if err := granted(p, req.GetApplication()); err != nil {
		return nil, err
	}
	err := s.domain.Remove(ctx, p.Tenant, callback.Ref{App: req.GetApplication(), ID: req.GetCallbackId(), Actor: p.Name})
	return &signetv1.RemoveCallbackResponse{}, err
}

func (s callbacks) RotateCallbackSecret(ctx context.Context, req *signetv1.RotateCallbackSecretRequest) (*signetv1.RotateCallbackSecretResponse, error) {
	p := principal(ctx)
	if err := granted(p, req.GetApplication()); err != nil {
		return nil, err
	}
	key, err := s.domain.Rotate(ctx, p.Tenant, callback.Ref{App: req.GetApplication(), ID: req.GetCallbackId(), Actor: p.Name})
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return &signetv1.RotateCallbackSecretResponse{Secret: string(key.Reveal())}, nil
}

func callbackOf(e callback.Endpoint) *signetv1.Callback {
	m := &signetv1.Callback{
		CallbackId: e.ID, Application: e.App, Name: e.Name, CallbackUrl: e.URL, CreatedAt: timestamppb.New(e.CreatedAt),
	}
	for number, name := range callbackTypes {
		if name == e.Type {
			m.Type = number
		}
	}
	return m
}
