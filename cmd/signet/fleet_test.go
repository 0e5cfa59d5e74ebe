package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/signet-hsm/signet/api/signetv1"
	"github.com/signet-hsm/signet/internal/linear"
)

// soak is the long form of the tests that race and kill: `make soak`.
var soak = os.Getenv("SIGNET_SOAK") != ""

// fleet is two nodes, each of which a fault may replace while clients call them,
// and what the clients saw.
type fleet struct {
	*site
	history *linear.History
	nodes   [2]atomic.Pointer[siteNode]
	turn    atomic.Uint64

	mu         sync.Mutex
	unexpected []error
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{site: newSite(t), history: linear.NewHistory()}
	for i := range f.nodes {
		f.nodes[i].Store(f.serve(t))
	}
	return f
}

// request is one question in the two dialects that answer it.
type request struct {
	rest func(ctx context.Context, n *siteNode) (linear.Answer, error)
	grpc func(ctx context.Context, n *siteNode) (linear.Answer, error) // may be nil
}

// ask puts the question to the next node in the next dialect and records what
// came back. After an outage it waits until both nodes serve again.
func (f *fleet) ask(ctx context.Context, client int, c linear.Call, r request) linear.Answer {
	for {
		turn := f.turn.Add(1)
		n, call := f.nodes[turn%2].Load(), r.rest
		if r.grpc != nil && turn/2%2 == 0 {
			call = r.grpc
		}
		a, sent := f.history.Record(client, c, func() (linear.Answer, bool) {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			a, err := call(ctx, n)
			switch {
			case err == nil:
				return a, true
			case errors.Is(err, syscall.ECONNREFUSED), strings.Contains(err.Error(), "connection refused"):
				return a, false // gRPC tells it in words only
			case !outage(err):
				f.mu.Lock()
				f.unexpected = append(f.unexpected, fmt.Errorf("%s: %w", c.Kind, err))
				f.mu.Unlock()
			}
			return linear.Answer{Unknown: true}, true
		})
		if sent && !a.Unknown || ctx.Err() != nil {
			return a
		}
		f.heal(ctx)
		if sent {
			return a
		}
	}
}

// heal returns when both nodes answer a question that needs the database.
func (f *fleet) heal(ctx context.Context) {
	for i := range f.nodes {
		for ctx.Err() == nil {
			s, err := f.nodes[i].Load().call(ctx, "GET", "/v2/registrations?userId=nobody", nil, nil)
			if err == nil && s == http.StatusOK {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// failed is an answer of REST that is no verdict.
type failed struct {
	status  int
	message string
}

func (e failed) Error() string { return fmt.Sprintf("status %d: %s", e.status, e.message) }

// outage reports whether an error leaves open what happened.
func outage(err error) bool {
	var f failed
	if errors.As(err, &f) {
		return f.status >= 500
	}
	s, ok := status.FromError(err)
	if !ok {
		return true // the connection
	}
	switch s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown:
		return true
	}
	return false
}

// ok is call for an answer that has to be 200.
func (n *siteNode) ok(ctx context.Context, method, path string, body, res any) error {
	var raw json.RawMessage
	s, err := n.call(ctx, method, path, body, &raw)
	if err != nil {
		return err
	}
	if s != http.StatusOK {
		var m struct {
			ResponseObject struct{ Message string }
		}
		_ = json.Unmarshal(raw, &m)
		return failed{s, m.ResponseObject.Message}
	}
	if res == nil {
		return nil
	}
	return json.Unmarshal(raw, res)
}

func (n *siteNode) authorized(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Basic "+base64Text([]byte(n.env["SIGNET_PA_APP"])))
}

func askSignature(b verifyBody, body []byte) request {
	return request{
		rest: func(ctx context.Context, n *siteNode) (linear.Answer, error) {
			var v verifyResult
			err := n.ok(ctx, "POST", "/v2/signature/verify", b, &v)
			return linear.Answer{Valid: v.SignatureValid, Status: v.RegistrationStatus, Remaining: v.RemainingAttempts}, err
		},
		grpc: func(ctx context.Context, n *siteNode) (linear.Answer, error) {
			res, err := signetv1.NewSignatureServiceClient(n.grpc).VerifySignature(n.authorized(ctx), &signetv1.VerifySignatureRequest{
				Check: &signetv1.SignatureCheck{Method: b.Method, UriId: b.URIID, AuthHeader: b.AuthHeader, Body: body},
			})
			v := res.GetVerdict()
			return linear.Answer{
				Valid: v.GetValid(), Status: strings.TrimPrefix(v.GetRegistrationStatus().String(), "REGISTRATION_STATUS_"),
				Remaining: int(v.GetRemainingAttempts()),
			}, err
		},
	}
}

func askUnblock(registration string) request {
	return request{
		rest: func(ctx context.Context, n *siteNode) (linear.Answer, error) {
			err := n.ok(ctx, "PUT", "/v2/registrations/"+registration, map[string]any{"change": "UNBLOCK"}, nil)
			return refused(err, "the registration is in a state that does not allow the change", "REGISTRATION_CHANGE")
		},
		grpc: func(ctx context.Context, n *siteNode) (linear.Answer, error) {
			_, err := signetv1.NewRegistrationServiceClient(n.grpc).ChangeRegistration(n.authorized(ctx), &signetv1.ChangeRegistrationRequest{
				RegistrationId: registration, Change: signetv1.RegistrationChange_REGISTRATION_CHANGE_UNBLOCK,
			})
			return refused(err, "the registration is in a state that does not allow the change", "REGISTRATION_CHANGE")
		},
	}
}

func askToken(header string) request {
	return request{
		rest: func(ctx context.Context, n *siteNode) (linear.Answer, error) {
			var v struct{ TokenValid bool }
			err := n.ok(ctx, "POST", "/v2/token/verify", map[string]any{"authHeader": header}, &v)
			return linear.Answer{Valid: v.TokenValid}, err
		},
		grpc: func(ctx context.Context, n *siteNode) (linear.Answer, error) {
			res, err := signetv1.NewTokenServiceClient(n.grpc).VerifyToken(n.authorized(ctx),
				&signetv1.VerifyTokenRequest{Check: &signetv1.TokenCheck{AuthHeader: header}})
			return linear.Answer{Valid: res.GetVerdict().GetValid()}, err
		},
	}
}

// otpCheck is what PA-OP-05 takes.
type otpCheck struct {
	operation    string
	OTP          string `json:"otp"`
	Nonce        string `json:"nonce"`
	Registration string `json:"registrationId"`
}

func askOTP(o otpCheck) request {
	return request{
		rest: func(ctx context.Context, n *siteNode) (linear.Answer, error) {
			var v struct{ OTPValid bool }
			if err := n.ok(ctx, "POST", "/v2/operations/"+o.operation+"/offline/otp", o, &v); err != nil {
				return refusedOTP(err)
			}
			return linear.Answer{Valid: v.OTPValid}, nil
		},
		grpc: func(ctx context.Context, n *siteNode) (linear.Answer, error) {
			res, err := signetv1.NewOperationServiceClient(n.grpc).VerifyOfflineOtp(n.authorized(ctx), &signetv1.VerifyOfflineOtpRequest{
				Check: &signetv1.OtpCheck{OperationId: o.operation, Otp: o.OTP, Nonce: o.Nonce, RegistrationId: o.Registration},
			})
			if err != nil {
				return refusedOTP(err)
			}
			return linear.Answer{Valid: res.GetVerdict().GetValid()}, nil
		},
	}
}

func refusedOTP(err error) (linear.Answer, error) {
	switch {
	case says(err, "operation is in invalid state for requested action", "OPERATION_STATE_CHANGE"):
		return linear.Answer{Refused: linear.RefusedState}, nil
	case says(err, "an earlier check of this OTP has no known outcome: read the operation and use a new QR code", "OPERATION_OTP_UNDECIDED"):
		return linear.Answer{Refused: linear.RefusedUndecided}, nil
	}
	return linear.Answer{}, err
}

// refused takes an error of that meaning for an answer.
func refused(err error, message, reason string) (linear.Answer, error) {
	switch {
	case err == nil:
		return linear.Answer{Valid: true}, nil
	case says(err, message, reason):
		return linear.Answer{Refused: linear.RefusedState}, nil
	}
	return linear.Answer{}, err
}

// says reports whether REST told the message, or gRPC the reason.
func says(err error, message, reason string) bool {
	var f failed
	if errors.As(err, &f) {
		return f.message == message
	}
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetReason() == reason {
			return true
		}
	}
	return false
}
