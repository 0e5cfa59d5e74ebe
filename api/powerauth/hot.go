package powerauth

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/api/powerauth/internal/spec"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/token"
)

// The two calls that an application tier makes all day are read and answered by
// hand. What is not of the plainest form is decoded like every other body, and the
// answers are byte for byte those that the contract's types would give: tests hold
// both.

// readSignature reads the body of PA-AUTH-01.
func readSignature(r *rest.Request) (spec.VerifySignature, error) {
	var body spec.VerifySignature
	var seen uint8
	plain := r.Flat(func(name []byte, value string) bool {
		var bit uint8
		switch string(name) {
		case "method":
			bit, body.Method = 1, spec.VerifySignatureMethod(value)
		case "uriId":
			bit, body.UriId = 2, value
		case "authHeader":
			bit, body.AuthHeader = 4, value
		case "requestBody":
			content := value // only this one has to be kept apart
			bit, body.RequestBody = 8, &content
		default:
			return false
		}
		again := seen & bit
		seen |= bit
		return again == 0
	})
	if plain {
		return body, nil
	}
	return rest.Decode[spec.VerifySignature](r, "requestBody", "queryParams")
}

// readToken reads the body of PA-AUTH-02.
func readToken(r *rest.Request) (spec.VerifyToken, error) {
	var body spec.VerifyToken
	seen := 0
	plain := r.Flat(func(name []byte, value string) bool {
		body.AuthHeader = value
		seen++
		return string(name) == "authHeader"
	})
	if plain && seen == 1 {
		return body, nil
	}
	return rest.Decode[spec.VerifyToken](r)
}

// signatureTypes has the contract's name of each set of factors.
var signatureTypes = func() (out [8]spec.SignatureType) {
	for f := range out {
		out[f] = spec.SignatureType(strings.ToUpper(signature.Factor(f).String()))
	}
	return out
}()

func signatureType(f signature.Factor) spec.SignatureType { return signatureTypes[f&7] }

func signatureAnswer(v registration.Verdict) rest.Response {
	j := jsonOf(v.App, v.Roles, v.Flags)
	j.text(`,"registrationId":`, v.ID)
	j.text(`,"registrationStatus":`, string(v.Status))
	j.raw(`,"remainingAttempts":`)
	j.b = strconv.AppendInt(j.b, int64(v.RemainingAttempts), 10)
	j.text(`,"signatureType":`, string(signatureType(v.Factors)))
	j.raw(`,"signatureValid":`)
	j.b = strconv.AppendBool(j.b, v.Valid)
	j.text(`,"userId":`, v.UserID)
	j.raw(`}`)
	if j.err != nil { // a text that is none: the usual way says so
		return rest.OK(spec.SignatureResult{
			SignatureValid: v.Valid, UserId: v.UserID, RegistrationId: v.ID,
			RegistrationStatus: spec.RegistrationStatus(v.Status), SignatureType: signatureType(v.Factors),
			RemainingAttempts: int64(v.RemainingAttempts), Flags: v.Flags,
			Application: spec.ApplicationInfo{Name: v.App, Roles: v.Roles},
		})
	}
	return rest.JSON(j.b)
}

func tokenAnswer(v token.Verdict) rest.Response {
	j := jsonOf(v.App, v.Roles, v.Flags)
	j.text(`,"registrationId":`, v.RegistrationID)
	j.text(`,"registrationStatus":`, string(v.Status))
	j.text(`,"signatureType":`, string(signatureType(v.Factors)))
	j.raw(`,"tokenValid":`)
	j.b = strconv.AppendBool(j.b, v.Valid)
	j.text(`,"userId":`, v.UserID)
	j.raw(`}`)
	if j.err != nil {
		return rest.OK(spec.TokenResult{
			TokenValid: v.Valid, UserId: v.UserID, RegistrationId: v.RegistrationID,
			RegistrationStatus: spec.RegistrationStatus(v.Status), SignatureType: signatureType(v.Factors),
			Flags: v.Flags, Application: spec.ApplicationInfo{Name: v.App, Roles: v.Roles},
		})
	}
	return rest.JSON(j.b)
}

// jsonText is an object in the making.
type jsonText struct {
	b   []byte
	err error
}

// jsonOf begins one with what both answers begin with.
func jsonOf(app string, roles, flags []string) *jsonText {
	j := &jsonText{b: make([]byte, 0, 384)}
	j.text(`{"application":{"name":`, app)
	j.list(`,"roles":[`, roles)
	j.list(`},"flags":[`, flags)
	return j
}

func (j *jsonText) raw(s string) { j.b = append(j.b, s...) }

func (j *jsonText) text(before, value string) {
	j.raw(before)
	b, err := jsontext.AppendQuote(j.b, value)
	if err != nil && j.err == nil {
		j.err = err
	}
	j.b = b
}

func (j *jsonText) list(before string, values []string) {
	j.raw(before)
	for i, v := range values {
		sep := ","
		if i == 0 {
			sep = ""
		}
		j.text(sep, v)
	}
	j.raw("]")
}
