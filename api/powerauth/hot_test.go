package powerauth_test

import (
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/api/internal/rest"
	api "github.com/signet-hsm/signet/api/powerauth"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/token"
)

// The answers that are written by hand are those of the contract's types.
func TestPAAUTH01_PAAUTH02_AnswersByHand(t *testing.T) {
	t.Parallel()
	texts := []string{"", "user-1", `say "hi" \ /`, "<&>\u2028\u2029", "ž\n\t\x01\x7f", "🏦", "\ufffd"}
	for i, s := range texts {
		lists := [][]string{nil, {}, {s}, texts}
		factors := signature.Factor(i + 1)
		v := registration.Verdict{
			Valid: i%2 == 0, ID: s, Status: registration.State(s), Factors: factors, UserID: s, App: s,
			Roles: lists[i%4], Flags: lists[(i+1)%4], RemainingAttempts: i - 1,
		}
		want := spec.SignatureResult{
			SignatureValid: v.Valid, UserId: s, RegistrationId: s, RegistrationStatus: spec.RegistrationStatus(s),
			SignatureType: api.SignatureType(factors), RemainingAttempts: int64(i - 1), Flags: v.Flags,
			Application: spec.ApplicationInfo{Name: s, Roles: v.Roles},
		}
		requireBody(t, want, api.SignatureAnswer(v))
		requireBody(t, spec.TokenResult{
			TokenValid: v.Valid, UserId: s, RegistrationId: s, RegistrationStatus: spec.RegistrationStatus(s),
			SignatureType: want.SignatureType, Flags: v.Flags, Application: want.Application,
		}, api.TokenAnswer(token.Verdict{
			Valid: v.Valid, RegistrationID: s, Status: v.Status, Factors: factors, UserID: s, App: s, Roles: v.Roles, Flags: v.Flags,
		}))
	}
	// What is no text fails as it always has.
	_, raw := api.SignatureAnswer(registration.Verdict{UserID: "\xff"}).Body.(rest.Raw)
	require.False(t, raw)
}

func requireBody(t *testing.T, want any, got rest.Response) {
	t.Helper()
	b, err := json.Marshal(want, json.Deterministic(true))
	require.NoError(t, err)
	require.Equal(t, 200, got.Status)
	require.Equal(t, string(b), string(got.Body.(rest.Raw).Data))
}

// Bodies in every form are one request: the quick reader gives up where it must.
func TestPAAUTH02_BodiesInEveryForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	quoted := func() string { return text(t, w.tokenHeader(d)) }
	for name, body := range map[string]string{
		"plain":        `{"authHeader":` + quoted() + `}`,
		"white space":  " {\n\t\"authHeader\" : " + quoted() + " }\r\n",
		"escaped name": `{"authHe\u0061der":` + quoted() + `}`,
		"escaped text": `{"authHeader":"\u0050` + quoted()[2:] + `}`,
	} {
		a := w.call("PA-AUTH-02", w.shop, body)
		require.Equal(t, 200, a.status, "%s: %s", name, a.body)
		require.Contains(t, string(a.body), `"tokenValid":true`, name)
	}
	for body, want := range map[string]string{
		`{"authHeader":"x","authHeader":"x"}`: "ERROR_REQUEST authHeader",
		`{"AuthHeader":"x"}`:                  "ERROR_REQUEST AuthHeader",
		`{"authHeader":"x","more":"x"}`:       "ERROR_REQUEST more",
		`{"authHeader":null}`:                 "ERROR_REQUEST authHeader",
		`{"authHeader":"\u0000"}`:             "ERROR_REQUEST authHeader",
		`{"authHeader":"x"`:                   "ERROR_REQUEST body",
		`{"authHeader":""}`:                   "ERROR_REQUEST authHeader",
		`{"authHeader":"x"}`:                  "ERROR_TOKEN_INVALID",
	} {
		a := w.call("PA-AUTH-02", w.shop, body)
		require.Equal(t, 400, a.status, body)
		require.Equal(t, want, a.code(t), body)
	}
}
