package operation_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
)

func TestMobileList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.template(alpha, payment())
	w.template(beta, payment())
	p := w.active(alpha, "APP", "petr", "VIP")
	plain := w.active(alpha, "APP", "petr")
	other := w.active(alpha, "APP", "jana")
	twin := w.active(beta, "APP", "petr")

	op := w.create(alpha, "petr", func(p *operation.CreateParams) { p.Flag = "VIP" })
	list, err := w.ops.List(ctx, alpha, p.device(), "cs")
	require.NoError(t, err)
	require.Equal(t, []operation.Item{{
		ID: op.ID, Name: "authorize_payment", Data: paymentData, State: operation.StatePending, Types: payment().Types,
		CreatedAt: op.CreatedAt, ExpiresAt: op.ExpiresAt, FlipButtons: true, FraudWarning: true,
		Form: operation.Form{Title: "Platba", Message: "Zaplatit 63.99 EUR?", Attributes: []operation.Attribute{
			{Type: "AMOUNT", ID: "operation.amount", Label: "Částka", Value: "63.99", Currency: "EUR"},
			{Type: "KEY_VALUE", ID: "operation.account", Label: "Counter account", Value: "238400856/0300"},
			{Type: "KEY_VALUE", ID: "operation.date", Label: "Due date", Value: "2026-11-30"},
			{Type: "NOTE", ID: "operation.note", Label: "Note", Value: "a*b\nc"},
		}},
	}}, list)
	item, err := w.ops.Detail(ctx, alpha, p.device(), op.ID, "cs")
	require.NoError(t, err)
	require.Equal(t, list[0], item)
	list, err = w.ops.List(ctx, alpha, p.device(), "de") // no German text: the operation's own language
	require.NoError(t, err)
	require.Equal(t, "Payment", list[0].Form.Title)

	elsewhere := p.device()
	elsewhere.App = "OTHER"
	for _, c := range []struct {
		name   string
		device operation.Device
	}{
		{"without the flag", plain.device()},
		{"another user", other.device()},
		{"another application", elsewhere},
	} {
		list, err := w.ops.List(ctx, alpha, c.device, "en")
		require.NoError(t, err)
		require.Empty(t, list, c.name)
		list, err = w.ops.History(ctx, alpha, c.device, "en")
		require.NoError(t, err)
		require.Empty(t, list, c.name)
		_, err = w.ops.Detail(ctx, alpha, c.device, op.ID, "en")
		require.Error(t, err, c.name)
	}
	list, err = w.ops.List(ctx, beta, twin.device(), "en")
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestMobileHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	first, second, third := w.create(alpha, "petr"), w.create(alpha, "petr"), w.create(alpha, "petr")
	require.NoError(t, p.approve(ctx, w.ops, first))
	require.NoError(t, w.ops.Cancel(ctx, alpha, operation.CancelParams{Apps: mine, ID: second.ID}))
	states := func(list []operation.Item, err error) map[string]operation.State {
		require.NoError(t, err)
		out := map[string]operation.State{}
		for _, i := range list {
			out[i.ID] = i.State
		}
		return out
	}
	require.Equal(t, map[string]operation.State{third.ID: operation.StatePending}, states(w.ops.List(ctx, alpha, p.device(), "en")))
	w.skew.Store(int64(time.Hour))
	require.Empty(t, states(w.ops.List(ctx, alpha, p.device(), "en")))
	require.Equal(t, map[string]operation.State{
		first.ID: operation.StateApproved, second.ID: operation.StateCanceled, third.ID: operation.StateExpired,
	}, states(w.ops.History(ctx, alpha, p.device(), "en")))
}

func TestMobileAuthorize_PUSHX03(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	require.NoError(t, p.approve(t.Context(), w.ops, op))
	got := w.get(alpha, op.ID)
	require.Equal(t, operation.StateApproved, got.State)
	require.Equal(t, map[string]string{
		"activationId": p.id, "applicationId": "APP", "authFactor": "POSSESSION_KNOWLEDGE", "ipAddress": "192.0.2.1", "userAgent": "phone/1",
	}, got.Additional)
	require.Equal(t, []string{"authentication.success"}, w.results(op.ID))
	require.Equal(t, "192.0.2.1", w.address("operation.approve", op.ID))
}

// The whole way: the phone signs the request's body, the registration judges it,
// and its verdict is the device that decides.
func TestMobileAuthorizeWithARealSignature(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr", "VIP")
	op := w.create(alpha, "petr", func(p *operation.CreateParams) { p.Flag = "VIP" })
	body, err := json.Marshal(map[string]any{"requestObject": map[string]string{"id": op.ID, "data": op.Data}})
	require.NoError(t, err)
	send := func(body []byte, signed []byte) error {
		h := signature.Header{
			ActivationID: p.id, ApplicationKey: w.version["alpha/APP"].Key, Factors: signature.PossessionKnowledge, Version: signature.V33,
		}
		h.Signature = p.keys.Sign(h.Version, h.Factors, signature.Request{
			Method: "POST", URIID: "/operation/authorize", Nonce: h.Nonce[:], Body: signed, Secret: w.version["alpha/APP"].Secret.Reveal(),
		}, p.ctr)
		p.ctr = p.ctr.Next()
		v, err := w.devices.Verify(ctx, alpha, registration.VerifyRequest{
			Apps: mine, Header: h, Method: "POST", URIID: "/operation/authorize", Body: body,
		})
		require.NoError(t, err)
		require.True(t, v.Judged)
		var req struct {
			RequestObject struct{ ID, Data string } `json:"requestObject"`
		}
		require.NoError(t, json.Unmarshal(body, &req))
		d := operation.Device{Registration: v.ID, UserID: v.UserID, App: v.App, Flags: v.Flags}
		if !v.Valid {
			return w.ops.Fail(ctx, alpha, d, req.RequestObject.ID)
		}
		return w.ops.Authorize(ctx, alpha, d, operation.Approval{
			ID: req.RequestObject.ID, Data: req.RequestObject.Data, Factors: v.Factors,
		})
	}
	require.ErrorIs(t, send(body, []byte("{}")), operation.ErrRefused)
	require.EqualValues(t, 1, w.get(alpha, op.ID).Failures)
	require.NoError(t, send(body, body))
	require.Equal(t, operation.StateApproved, w.get(alpha, op.ID).State)
}

// What does not fit is counted; the last attempt allowed ends the operation.
func TestMobileAuthorizeCounts_PUSHX04(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	good := operation.Approval{ID: op.ID, Data: op.Data, Factors: signature.PossessionKnowledge}

	otherData, otherFactors := good, good
	otherData.Data += " "
	otherFactors.Factors = signature.Possession
	require.ErrorIs(t, w.ops.Authorize(ctx, alpha, p.device(), otherData), operation.ErrRefused)
	require.ErrorIs(t, w.ops.Authorize(ctx, alpha, p.device(), otherFactors), operation.ErrRefused)
	require.EqualValues(t, 2, w.get(alpha, op.ID).Failures)
	require.ErrorIs(t, w.ops.Authorize(ctx, alpha, p.device(), otherData), operation.ErrFailed)
	require.ErrorIs(t, w.ops.Authorize(ctx, alpha, p.device(), good), operation.ErrFailed)
	require.Equal(t, operation.StateFailed, w.get(alpha, op.ID).State)
	require.Equal(t, []string{"authentication.fail"}, w.results(op.ID))
	require.Equal(t, map[string]int{
		"create/ok": 1, "approve/data_does_not_match": 2, "approve/factors_not_allowed": 1,
	}, w.outcomes(alpha, op.ID))
}

// A stranger learns nothing and, above all, fails nobody's operation.
func TestMobileStrangersCostNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr", "VIP")
	op := w.create(alpha, "petr", func(p *operation.CreateParams) { p.Flag = "VIP" })
	jana, noFlag, unverified, elsewhere := p.device(), p.device(), p.device(), p.device()
	jana.UserID, elsewhere.App, noFlag.Flags = "jana", "OTHER", nil
	unverified.Flags = []string{"VIP", "VERIFICATION_IN_PROGRESS"}
	wrong := operation.Approval{ID: op.ID, Data: "A2", Factors: signature.Possession}
	for range 5 {
		for _, c := range []struct {
			device operation.Device
			err    error
		}{{jana, operation.ErrNotFound}, {elsewhere, operation.ErrNotFound}, {noFlag, operation.ErrFlag}, {unverified, operation.ErrActivation}} {
			require.ErrorIs(t, w.ops.Authorize(ctx, alpha, c.device, wrong), c.err)
			if c.err == operation.ErrActivation {
				continue
			}
			require.ErrorIs(t, w.ops.Fail(ctx, alpha, c.device, op.ID), c.err)
			require.ErrorIs(t, w.ops.Reject(ctx, alpha, c.device, operation.Rejection{ID: op.ID}), c.err)
		}
		require.ErrorIs(t, w.ops.Authorize(ctx, beta, p.device(), wrong), operation.ErrNotFound)
	}
	require.Equal(t, op, w.get(alpha, op.ID))
	unknown := wrong
	unknown.ID = uuid.NewString()
	require.ErrorIs(t, w.ops.Authorize(ctx, alpha, p.device(), unknown), operation.ErrNotFound)
}

func TestMobileReject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.template(alpha, payment())
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	require.ErrorIs(t, w.ops.Reject(ctx, alpha, p.device(), operation.Rejection{ID: op.ID, Reason: "a\x00"}), operation.ErrInvalid)
	require.NoError(t, w.ops.Reject(ctx, alpha, p.device(), operation.Rejection{ID: op.ID, Reason: "INCORRECT_DATA"}))
	got := w.get(alpha, op.ID)
	require.Equal(t, operation.StateRejected, got.State)
	require.Equal(t, "INCORRECT_DATA", got.Reason)
	require.Equal(t, p.id, got.Additional["activationId"])
	require.Equal(t, "192.0.2.1", got.Additional["ipAddress"])
	require.Equal(t, "192.0.2.1", w.address("operation.reject", op.ID))
	require.Equal(t, []string{"authentication.fail"}, w.results(op.ID))
}

func TestMobileProximityCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	tpl := payment()
	tpl.Proximity, tpl.MaxFailures = true, 10
	w.template(alpha, tpl)
	p := w.active(alpha, "APP", "petr")
	op := w.create(alpha, "petr")
	require.Empty(t, op.ProximityOTP)
	at := func(d time.Duration) string { // the screen's OTP after d
		w.skew.Store(int64(d))
		otp := w.get(alpha, op.ID).ProximityOTP
		require.Len(t, otp, 8)
		return otp
	}
	approve := func(otp string) error {
		return w.ops.Authorize(ctx, alpha, p.device(), operation.Approval{
			ID: op.ID, Data: op.Data, Factors: signature.PossessionKnowledge, ProximityOTP: otp,
		})
	}
	item, err := w.ops.Detail(ctx, alpha, p.device(), op.ID, "en")
	require.NoError(t, err)
	require.True(t, item.Proximity)

	old := at(0)
	next := at(90 * time.Second)
	at(60 * time.Second)
	for _, otp := range []string{"", "12345", old, next} {
		require.ErrorIs(t, approve(otp), operation.ErrRefused, otp)
	}
	require.EqualValues(t, 4, w.get(alpha, op.ID).Failures)
	previous := at(60 * time.Second)
	w.skew.Store(int64(90 * time.Second))
	require.NoError(t, approve(previous), "the previous step is good")
	require.Empty(t, w.get(alpha, op.ID).ProximityOTP, "nothing is shown of an operation that ended")
}
