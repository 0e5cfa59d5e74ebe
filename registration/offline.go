package registration

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

// MaxCandidates bounds the texts that one offline signature is tried with.
const MaxCandidates = 8

// OfflineRequest is what a person typed, and what the device should have signed.
type OfflineRequest struct {
	Apps  []string // the applications that the caller may use; empty means none
	ID    string   // of the registration
	URIID string   // the agreed resource id, "/operation/authorize/offline"
	Nonce []byte   // 16 bytes, as in the QR code
	// Data are the candidates of the signed body, 1 to MaxCandidates: one, or the
	// same with the TOTP of this and of earlier steps.
	Data [][]byte
	// Signature is 16 digits: together, 8-8 or 4-4-4-4, and no other form.
	Signature string
	Biometry  bool // a signature with biometry instead of knowledge is good too
	Actor     string
}

// VerifyOffline judges a signature of 8+8 digits that a person copied. It shares
// counters, look-ahead, failed attempts and blocking with Verify; whatever the
// number of candidates, a wrong signature is one failed attempt. A request of a
// wrong form is ErrInvalid before anything is read, and counts nothing.
func (r *Registrar) VerifyOffline(ctx context.Context, t tenant.ID, req OfflineRequest) (Verdict, error) {
	start := time.Now()
	v, outcome, err := r.verifyOffline(ctx, t, req)
	r.metrics.seconds.Observe(time.Since(start).Seconds())
	if err != nil {
		outcome = fault.KindOf(err).String()
		err = fmt.Errorf("registration: verify offline: %w", err)
	}
	r.metrics.verdicts.WithLabelValues(outcome).Inc()
	return v, err
}

func (r *Registrar) verifyOffline(ctx context.Context, t tenant.ID, req OfflineRequest) (Verdict, string, error) {
	sig, err := req.parse()
	if err != nil {
		return Verdict{}, "", err
	}
	id, ok := parseID(req.ID)
	if !ok {
		return Verdict{}, "", ErrInvalid.With(fault.Violation{Field: "registrationId", Value: req.ID, Hint: "must be a UUID"})
	}
	return r.decide(ctx, t, id, &attempt{
		apps: req.Apps, actor: req.Actor, action: "registration.verify_offline", factors: signature.PossessionKnowledge,
		match: func(k *signature.Keys, secret []byte, ctr signature.Counter) (signature.Match, bool) {
			for _, data := range req.Data {
				if m, ok := k.VerifyOffline(&sig, req.signed(data, secret), ctr, lookAhead, req.Biometry); ok {
					return m, true
				}
			}
			return signature.Match{}, false
		},
		detail: req.detail,
	})
}

func (r *OfflineRequest) signed(data, secret []byte) signature.Request {
	return signature.Request{Method: "POST", URIID: r.URIID, Nonce: r.Nonce, Body: data, Secret: secret}
}

func (r *OfflineRequest) parse() (sig signature.Signature, err error) {
	var v []fault.Violation
	digits, ok := offlineDigits(r.Signature)
	if ok {
		sig, err = signature.ParseOfflineSignature(digits, signature.OnlineDigits)
	}
	if !ok || err != nil { // what was typed may be a right one for another day: not repeated
		v = append(v, fault.Violation{Field: "otp", Hint: "must be 16 digits, also as 8-8 or 4-4-4-4"})
	}
	if len(r.Nonce) != 16 {
		v = append(v, fault.Violation{Field: "nonce", Hint: "must be Base64 of 16 bytes"})
	}
	if len(r.Data) == 0 || len(r.Data) > MaxCandidates {
		v = append(v, fault.Violation{Field: "data", Hint: fmt.Sprintf("must have 1 to %d candidates", MaxCandidates)})
	}
	if n := utf8.RuneCountInString(r.URIID); n == 0 || n > MaxURIID || !utf8.ValidString(r.URIID) || strings.ContainsRune(r.URIID, 0) {
		v = append(v, fault.Violation{Field: "uriId", Hint: fmt.Sprintf("must be 1 to %d characters", MaxURIID)})
	}
	return sig, refuse(v)
}

// offlineDigits brings the three written forms to the one of the kernel,
// "12345678-12345678"; what is no digit and no dash in its place is refused.
func offlineDigits(s string) (string, bool) {
	groups := strings.Split(s, "-")
	size, ok := map[int]int{1: 16, 2: 8, 4: 4}[len(groups)]
	if !ok {
		return "", false
	}
	for _, g := range groups {
		if len(g) != size || strings.Trim(g, "0123456789") != "" {
			return "", false
		}
	}
	all := strings.Join(groups, "")
	return all[:8] + "-" + all[8:], true
}

func (r *OfflineRequest) detail(b []byte) []byte {
	b = append(b, `"uriId":`...)
	b, _ = jsontext.AppendQuote(b, r.URIID) // fails for bad UTF-8 only, which parse refused
	b = append(b, `,"biometryAllowed":`...)
	b = fmt.Append(b, r.Biometry)
	b = append(b, `,"dataHash":"`...)
	sum := dataHash(r.signed(r.Data[0], nil))
	b = hex.AppendEncode(b, sum[:])
	return append(b, '"')
}
