package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/signet-hsm/signet/signature"
)

// tourTemplate is the operation template that the tour uses.
const tourTemplate = "tour-payment"

// admin authenticates as the demo tenant's administrator.
func (t *tour) admin(r *http.Request) {
	user, password, _ := strings.Cut(t.paAdmin, ":")
	r.SetBasicAuth(user, password)
}

func (t *tour) verifyToken(ctx context.Context) (string, error) {
	var err error
	if t.token, err = t.device.CreateToken(ctx, signature.PossessionKnowledge); err != nil {
		return "", err
	}
	header, err := t.device.TokenHeader(t.token)
	if err != nil {
		return "", err
	}
	// A token header is good once.
	for _, want := range []bool{true, false} {
		var res struct{ TokenValid bool }
		if err := t.call(ctx, t.basic, "POST", "/v2/token/verify", http.StatusOK, map[string]any{"authHeader": header}, &res); err != nil {
			return "", err
		}
		if res.TokenValid != want {
			return "", fmt.Errorf("tokenValid %t", res.TokenValid)
		}
	}
	return "valid once, then refused", nil
}

// ensureTemplate makes the tour's template on the first start.
func (t *tour) ensureTemplate(ctx context.Context) error {
	var have []struct{ TemplateName string }
	if err := t.call(ctx, t.admin, "GET", "/admin/templates", http.StatusOK, nil, &have); err != nil {
		return err
	}
	for _, h := range have {
		if h.TemplateName == tourTemplate {
			return nil
		}
	}
	return t.call(ctx, t.admin, "POST", "/admin/templates", http.StatusOK, map[string]any{
		"templateName": tourTemplate, "operationType": "authorize_payment",
		"dataTemplate":  "A1*A${amount}${currency}*I${iban}",
		"signatureType": []string{"POSSESSION_KNOWLEDGE", "POSSESSION_BIOMETRY"},
		"texts":         map[string]any{"en": map[string]any{"title": "Payment", "message": "Pay ${amount} ${currency}"}},
	}, nil)
}

func (t *tour) createOperation(ctx context.Context) (string, error) {
	if err := t.ensureTemplate(ctx); err != nil {
		return "", err
	}
	var op struct{ OperationID string }
	err := t.call(ctx, t.basic, "POST", "/v2/operations", http.StatusOK, map[string]any{
		"userId": t.user, "template": tourTemplate,
		"parameters": map[string]any{"amount": "100.00", "currency": "CZK", "iban": "CZ5508000000001234567899"},
	}, &op)
	t.operations = append(t.operations, op.OperationID)
	return op.OperationID, err
}

func (t *tour) requireApproved(ctx context.Context, id string) error {
	var op struct{ Status string }
	err := t.call(ctx, t.basic, "GET", "/v2/operations/"+id, http.StatusOK, nil, &op)
	if err == nil && op.Status != "APPROVED" {
		err = fmt.Errorf("the operation is %s", op.Status)
	}
	return err
}

func (t *tour) approveOnline(ctx context.Context) (string, error) {
	id, err := t.createOperation(ctx)
	if err != nil {
		return "", err
	}
	list, err := t.device.Operations(ctx, t.token)
	if err != nil {
		return "", err
	}
	if len(list) != 1 || list[0].ID != id {
		return "", fmt.Errorf("the phone lists %d operations", len(list))
	}
	if err := t.device.Approve(ctx, list[0], signature.PossessionKnowledge); err != nil {
		return "", err
	}
	return list[0].Form.Message + ": APPROVED", t.requireApproved(ctx, id)
}

func (t *tour) approveOffline(ctx context.Context) (string, error) {
	id, err := t.createOperation(ctx)
	if err != nil {
		return "", err
	}
	var qr struct{ OperationQRCodeData, Nonce string }
	path := "/v2/operations/" + id + "/offline/qr?" + url.Values{"registrationId": {t.registration}}.Encode()
	if err := t.call(ctx, t.basic, "GET", path, http.StatusOK, nil, &qr); err != nil {
		return "", err
	}
	scanned, err := t.device.ScanOffline(qr.OperationQRCodeData)
	if err != nil {
		return "", err
	}
	otp, err := t.device.SignOffline(scanned.Offline, signature.PossessionKnowledge)
	if err != nil {
		return "", err
	}
	var res struct{ OTPValid bool }
	if err := t.call(ctx, t.basic, "POST", "/v2/operations/"+id+"/offline/otp", http.StatusOK,
		map[string]any{"otp": otp, "nonce": qr.Nonce, "registrationId": t.registration}, &res); err != nil {
		return "", err
	}
	if !res.OTPValid {
		return "", errors.New("otpValid false")
	}
	return "OTP " + otp + ": APPROVED", t.requireApproved(ctx, id)
}

func (t *tour) blockAndUnblock(ctx context.Context) (string, error) {
	var seen []string
	for _, change := range []struct{ verb, state string }{{"BLOCK", "BLOCKED"}, {"UNBLOCK", "ACTIVE"}} {
		if err := t.call(ctx, t.basic, "PUT", "/v2/registrations/"+t.registration, http.StatusOK, map[string]any{"change": change.verb}, nil); err != nil {
			return "", err
		}
		s, err := t.device.Status(ctx)
		if err != nil {
			return "", err
		}
		if s.State != change.state {
			return "", fmt.Errorf("after %s the phone sees %s", change.verb, s.State)
		}
		seen = append(seen, s.State)
	}
	return "the phone sees " + strings.Join(seen, ", then "), nil
}

// pushesRecorded waits for the outbox: pushes follow their operations, they do
// not hold them up.
func (t *tour) pushesRecorded(ctx context.Context) (string, error) {
	for {
		raw, err := os.ReadFile(t.pushFile)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		found := 0
		for _, id := range t.operations {
			for _, kind := range []string{"mtoken.operationInit", "mtoken.operationFinished"} {
				for line := range bytes.Lines(raw) {
					if bytes.Contains(line, []byte(id)) && bytes.Contains(line, []byte(kind)) {
						found++
						break
					}
				}
			}
		}
		if found == 2*len(t.operations) {
			return fmt.Sprintf("%d in %s", found, t.pushFile), nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%d of %d pushes: %w", found, 2*len(t.operations), ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (t *tour) auditChain(ctx context.Context) (string, error) { return t.verifyAudit(ctx) }
