package powerauth

import (
	"context"
	"errors"
	"maps"
	"strings"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/tenant"
)

// Operations is the part of *operation.Ledger that the dialect calls.
type Operations interface {
	Create(ctx context.Context, t tenant.ID, p operation.CreateParams) (operation.Operation, error)
	Get(ctx context.Context, t tenant.ID, apps []string, id string) (operation.Operation, error)
	Cancel(ctx context.Context, t tenant.ID, p operation.CancelParams) error
	OfflineQR(ctx context.Context, t tenant.ID, p operation.QRParams) (operation.QR, error)
	OfflineOTP(ctx context.Context, t tenant.ID, p operation.OTPParams) (operation.OTPVerdict, error)
	Announce(ctx context.Context, t tenant.ID, id string) error

	CreateTemplate(ctx context.Context, t tenant.ID, tpl operation.Template, actor string) (operation.Template, error)
	UpdateTemplate(ctx context.Context, t tenant.ID, tpl operation.Template, actor string) error
	DeleteTemplate(ctx context.Context, t tenant.ID, name, actor string) error
	Templates(ctx context.Context, t tenant.ID) ([]operation.Template, error)

	List(ctx context.Context, t tenant.ID, d operation.Device, language string) ([]operation.Item, error)
	History(ctx context.Context, t tenant.ID, d operation.Device, language string) ([]operation.Item, error)
	Detail(ctx context.Context, t tenant.ID, d operation.Device, id, language string) (operation.Item, error)
	Authorize(ctx context.Context, t tenant.ID, d operation.Device, a operation.Approval) error
	Reject(ctx context.Context, t tenant.ID, d operation.Device, r operation.Rejection) error
	Fail(ctx context.Context, t tenant.ID, d operation.Device, id string) error
}

var _ Operations = (*operation.Ledger)(nil)

// createOperation is PA-OP-01.
func (h *handlers) createOperation(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.CreateOperation](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	notEmpty(&c, "language", body.Language)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	op, err := h.operations.Create(ctx, r.Principal.Tenant, operation.CreateParams{
		Apps: r.Principal.Apps, UserID: body.UserId, Template: body.Template, Language: value(body.Language, ""),
		ExternalID: value(body.ExternalId, ""), Flag: value(body.Flag, ""), Parameters: value(body.Parameters, nil),
		Actor: r.Principal.Name,
	})
	return rest.OK(spec.Operation{
		OperationId: op.ID, UserId: op.UserID, ExternalId: given(op.ExternalID), Status: spec.OperationStatus(op.State),
		Template: op.Template, OperationType: op.Type, Flag: given(op.Flag), Parameters: &op.Parameters,
		FailureCount: op.Failures, MaxFailureCount: op.MaxFailures,
		TimestampCreated: op.CreatedAt.UnixMilli(), TimestampExpires: op.ExpiresAt.UnixMilli(),
	}), err
}

// operationDetail has the proximity OTP beside what the contract has, for the
// screen that the person is to be in front of.
type operationDetail struct {
	spec.OperationDetail
	ProximityOTP string `json:"proximityOtp,omitzero"`
}

// getOperation is PA-OP-02.
func (h *handlers) getOperation(ctx context.Context, r *rest.Request) (rest.Response, error) {
	op, err := h.operations.Get(ctx, r.Principal.Tenant, r.Principal.Apps, r.Path("operationId"))
	if err != nil {
		return rest.Response{}, err
	}
	more := maps.Clone(op.Additional)
	if op.Reason != "" {
		if more == nil {
			more = map[string]string{}
		}
		more["reason"] = op.Reason
	}
	return rest.OK(operationDetail{spec.OperationDetail{
		OperationId: op.ID, UserId: op.UserID, ExternalId: given(op.ExternalID), Status: spec.OperationStatus(op.State),
		Template: op.Template, OperationType: op.Type, Flag: given(op.Flag), Parameters: &op.Parameters, AdditionalData: &more,
		FailureCount: op.Failures, MaxFailureCount: op.MaxFailures,
		TimestampCreated: op.CreatedAt.UnixMilli(), TimestampExpires: op.ExpiresAt.UnixMilli(),
	}, op.ProximityOTP}), nil
}

// cancelOperation is PA-OP-03. The reason may be told as later versions of the
// original take it.
func (h *handlers) cancelOperation(ctx context.Context, r *rest.Request) (rest.Response, error) {
	var c rest.Check
	reason, _ := c.Query(r, "statusReason")
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	return done, h.operations.Cancel(ctx, r.Principal.Tenant, operation.CancelParams{
		Apps: r.Principal.Apps, ID: r.Path("operationId"), Reason: reason, Actor: r.Principal.Name,
	})
}

// getOperationQR is PA-OP-04, as JSON or a picture.
func (h *handlers) getOperationQR(ctx context.Context, r *rest.Request) (rest.Response, error) {
	var c rest.Check
	id, _ := c.Query(r, "registrationId")
	c.Length("registrationId", id, 1, operation.MaxText)
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	return h.offlineQR(ctx, r, operation.QRParams{Registration: id})
}

// getNonPersonalizedQR is PA-X-20: for any device of the user.
func (h *handlers) getNonPersonalizedQR(ctx context.Context, r *rest.Request) (rest.Response, error) {
	var c rest.Check
	id, given := c.Query(r, "appId")
	if given {
		c.Length("appId", id, 1, operation.MaxText)
	}
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	return h.offlineQR(ctx, r, operation.QRParams{App: id})
}

func (h *handlers) offlineQR(ctx context.Context, r *rest.Request, p operation.QRParams) (rest.Response, error) {
	p.Apps, p.ID = r.Principal.Apps, r.Path("operationId")
	code, err := h.operations.OfflineQR(ctx, r.Principal.Tenant, p)
	if err != nil {
		return rest.Response{}, err
	}
	resp, err := pictured(r, code.Data, spec.OperationQr{OperationQrCodeData: code.Data, Nonce: code.Nonce})
	if err == nil {
		resp.Header["X-Operation-Nonce"] = code.Nonce // a picture has no other place for what PA-OP-05 needs
	}
	return resp, err
}

// verifyOTP is PA-OP-05. A wrong OTP is 200 with otpValid false.
func (h *handlers) verifyOTP(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.VerifyOtp](r)
	if err != nil {
		return rest.Response{}, err
	}
	var c rest.Check
	present(&c, "nonce", body.Nonce != "")
	present(&c, "registrationId", body.RegistrationId != "")
	if err := c.Err(); err != nil {
		return rest.Response{}, err
	}
	v, err := h.operations.OfflineOTP(ctx, r.Principal.Tenant, operation.OTPParams{
		Apps: r.Principal.Apps, ID: r.Path("operationId"), OTP: body.Otp, Nonce: body.Nonce,
		Registration: body.RegistrationId, Actor: r.Principal.Name,
	})
	if err != nil {
		return rest.Response{}, err
	}
	return rest.OK(spec.OtpResult{
		OtpValid: v.Valid, UserId: v.UserID, OperationId: &v.OperationID, RegistrationId: v.Registration,
		RegistrationStatus: spec.RegistrationStatus(v.Status), SignatureType: spec.SignatureType(strings.ToUpper(v.Factors.String())),
		RemainingAttempts: int64(v.RemainingAttempts), Flags: v.Flags,
		Application: spec.ApplicationInfo{Name: v.App, Roles: v.Roles},
	}), nil
}

// operationCallback is PA-INT-01.
func (h *handlers) operationCallback(ctx context.Context, r *rest.Request) (rest.Response, error) {
	body, err := rest.Decode[spec.OperationCallback](r)
	if err != nil {
		return rest.Response{}, err
	}
	err = h.operations.Announce(ctx, r.Principal.Tenant, body.OperationId)
	if errors.Is(err, operation.ErrNotFound) { // the call has no other error
		err = rest.ErrRequest.With(fault.Violation{Field: "operationId", Hint: "must be a known operation"})
	}
	return done, err
}

// given is a member that is left out when it is empty.
func given(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
