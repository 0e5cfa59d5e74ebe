package powerauth

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/token"
)

// The resource ids that a phone signs for in the mobile token API.
const (
	uriHistory   = "/operation/history"
	uriAuthorize = "/operation/authorize"
	uriCancel    = "/operation/cancel"
)

// listMobile is POST /api/auth/token/app/operation/list: what is to be decided.
func (h *handlers) listMobile(ctx context.Context, r *rest.Request) (rest.Response, error) {
	c, err := h.byToken(ctx, r)
	if err != nil {
		return rest.Response{}, err
	}
	list, err := h.operations.List(ctx, c.Tenant, deviceOf(r, c), language(r))
	return h.timed(items(list)), err
}

// detailMobile is POST /api/auth/token/app/operation/detail.
func (h *handlers) detailMobile(ctx context.Context, r *rest.Request) (rest.Response, error) {
	c, err := h.byToken(ctx, r)
	if err != nil {
		return rest.Response{}, err
	}
	body, err := rest.DecodeKnown[object[struct {
		ID string `json:"id"`
	}]](r)
	if err != nil {
		return rest.Response{}, err
	}
	op, err := h.operations.Detail(ctx, c.Tenant, deviceOf(r, c), body.Object.ID, language(r))
	return h.timed(itemOf(op)), err
}

// historyMobile is POST /api/auth/token/app/operation/history, signed with two
// factors: it shows what was decided.
func (h *handlers) historyMobile(ctx context.Context, r *rest.Request) (rest.Response, error) {
	req, err := signed(r)
	if err != nil {
		return rest.Response{}, err
	}
	c, err := h.registrations.Authenticate(ctx, req, uriHistory, signature.PossessionKnowledge, signature.PossessionBiometry)
	if err != nil {
		return rest.Response{}, err
	}
	list, err := h.operations.History(ctx, c.Tenant, deviceOf(r, c), language(r))
	return h.timed(items(list)), err
}

// authorizeMobile is POST /api/auth/token/app/operation/authorize. A wrong
// signature of a registration that could have signed counts at the operation too.
func (h *handlers) authorizeMobile(ctx context.Context, r *rest.Request) (rest.Response, error) {
	req, err := signed(r)
	if err != nil {
		return rest.Response{}, err
	}
	body, err := rest.DecodeKnown[object[struct {
		ID        string `json:"id"`
		Data      string `json:"data"`
		Proximity struct {
			OTP string `json:"otp"`
		} `json:"proximityCheck"`
	}]](r)
	if err != nil {
		return rest.Response{}, err
	}
	if !slices.Contains(approving, req.Header.Factors) {
		return rest.Response{}, registration.ErrSignatureType
	}
	t, v, err := h.registrations.VerifyDevice(ctx, req, uriAuthorize)
	if err != nil {
		return rest.Response{}, err
	}
	d := deviceOf(r, registration.Caller{ID: v.ID, UserID: v.UserID, App: v.App, Flags: v.Flags})
	switch {
	case !v.Valid && v.Judged:
		// Counted, but nothing is told of the operation: the caller has proven nothing.
		err := h.operations.Fail(ctx, t, d, body.Object.ID)
		if k := fault.KindOf(err); err != nil && (k == fault.Unavailable || k == fault.Internal) {
			return rest.Response{}, err // not counted: that must not pass unseen
		}
		return rest.Response{}, registration.ErrSignature
	case !v.Valid:
		return rest.Response{}, registration.ErrSignature
	}
	return done, h.operations.Authorize(ctx, t, d, operation.Approval{
		ID: body.Object.ID, Data: body.Object.Data, Factors: v.Factors, ProximityOTP: body.Object.Proximity.OTP,
	})
}

var approving = []signature.Factor{signature.Possession, signature.PossessionKnowledge, signature.PossessionBiometry}

// cancelMobile is POST /api/auth/token/app/operation/cancel: the person says no.
func (h *handlers) cancelMobile(ctx context.Context, r *rest.Request) (rest.Response, error) {
	req, err := signed(r)
	if err != nil {
		return rest.Response{}, err
	}
	body, err := rest.DecodeKnown[object[struct {
		ID     string `json:"id"`
		Reason string `json:"reason"`
	}]](r)
	if err != nil {
		return rest.Response{}, err
	}
	c, err := h.registrations.Authenticate(ctx, req, uriCancel, approving...)
	if err != nil {
		return rest.Response{}, err
	}
	return done, h.operations.Reject(ctx, c.Tenant, deviceOf(r, c), operation.Rejection{ID: body.Object.ID, Reason: body.Object.Reason})
}

// byToken authenticates by X-PowerAuth-Token. A header that does not parse is a
// token that is not good.
func (h *handlers) byToken(ctx context.Context, r *rest.Request) (registration.Caller, error) {
	value := r.Header(signature.TokenHeaderName)
	if value == "" {
		return registration.Caller{}, errSignatureMissing
	}
	header, err := signature.ParseTokenHeader(value)
	if err != nil {
		return registration.Caller{}, fmt.Errorf("%w: %w", token.ErrToken, err)
	}
	return h.tokens.Authenticate(ctx, header)
}

func deviceOf(r *rest.Request, c registration.Caller) operation.Device {
	return operation.Device{
		Registration: c.ID, UserID: c.UserID, App: c.App, Flags: c.Flags, Address: r.Address(), Agent: r.Header("User-Agent"),
	}
}

// language is the first one of Accept-Language, two small letters; phones send
// the one they show.
func language(r *rest.Request) string {
	s := strings.ToLower(strings.TrimSpace(r.Header("Accept-Language")))
	if len(s) < 2 || s[0] < 'a' || s[0] > 'z' || s[1] < 'a' || s[1] > 'z' || len(s) > 2 && strings.IndexByte("-_,; ", s[2]) < 0 {
		return operation.DefaultLanguage
	}
	return s[:2]
}
