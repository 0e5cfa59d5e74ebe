package registration

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/signature"
)

// Bounds, in characters, elements and time.
const (
	MaxText  = 255
	MaxFlags = 100
	MaxURIID = 1024
	MaxList  = 1000 // registrations of one user in a List, the newest

	// DefaultValidity is how long a registration may stay in progress.
	DefaultValidity = 5 * time.Minute
	// MaxFailedAttempts is how many wrong signatures, or wrong OTPs, in a row end it.
	MaxFailedAttempts = 5
	// MaxClockSkew is how far the timestamp of a 3.2 message may be off.
	MaxClockSkew = 5 * time.Minute

	codeTries = 10 // activation codes drawn before a Create gives up
	lookAhead = signature.DefaultLookAhead
)

const hintText = "must be 1 to 255 characters"

// ValidText reports whether s is 1..MaxText characters that PostgreSQL can store.
func ValidText(s string) bool { return s != "" && optionalText(s) }

func optionalText(s string) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= MaxText && !strings.ContainsRune(s, 0)
}

// refuse makes ErrInvalid of the violations, nil of none.
func refuse(v []fault.Violation) error {
	if len(v) == 0 {
		return nil
	}
	return ErrInvalid.With(v...)
}

func (p CreateParams) validate() error {
	var v []fault.Violation
	if !ValidText(p.UserID) {
		v = append(v, fault.Violation{Field: "userId", Value: p.UserID, Hint: hintText})
	}
	if !ValidText(p.App) {
		v = append(v, fault.Violation{Field: "appId", Value: p.App, Hint: hintText})
	}
	switch {
	case !p.OTPMode.valid():
		v = append(v, fault.Violation{Field: "otpValidation", Value: string(p.OTPMode), Hint: "must be NONE, ON_KEY_EXCHANGE or ON_COMMIT"})
	case p.OTPMode == OTPNone && p.OTP != "":
		v = append(v, fault.Violation{Field: "otpValidation", Value: string(p.OTPMode), Hint: "must say when the otp is checked"})
	case p.OTPMode != OTPNone && p.OTP == "":
		v = append(v, fault.Violation{Field: "otp", Hint: "must be present unless otpValidation is NONE"})
	}
	if !optionalText(p.OTP) { // the value is a secret and is not repeated
		v = append(v, fault.Violation{Field: "otp", Hint: hintText})
	}
	return refuse(append(v, flagViolations(p.Flags)...))
}

func (p CommitParams) validate() error {
	var v []fault.Violation
	if !optionalText(p.ExternalUserID) {
		v = append(v, fault.Violation{Field: "externalUserId", Value: p.ExternalUserID, Hint: hintText})
	}
	if !optionalText(p.OTP) {
		v = append(v, fault.Violation{Field: "otp", Hint: hintText})
	}
	return refuse(v)
}

func (r VerifyRequest) validate() error {
	var v []fault.Violation
	if !slices.Contains([]string{"GET", "POST", "PUT", "DELETE"}, r.Method) {
		v = append(v, fault.Violation{Field: "method", Value: r.Method, Hint: "must be GET, POST, PUT or DELETE"})
	}
	if n := utf8.RuneCountInString(r.URIID); n == 0 || n > MaxURIID || !utf8.ValidString(r.URIID) || strings.ContainsRune(r.URIID, 0) {
		v = append(v, fault.Violation{Field: "uriId", Hint: fmt.Sprintf("must be 1 to %d characters", MaxURIID)})
	}
	if r.Method == "GET" && len(r.Body) > 0 {
		v = append(v, fault.Violation{Field: "requestBody", Hint: "must be null for GET"})
	}
	if r.Method != "GET" && len(r.Query) > 0 {
		v = append(v, fault.Violation{Field: "queryParams", Hint: "must be null unless the method is GET"})
	}
	return refuse(v)
}

// unique keeps the first of equal flags, and is never nil: the column is not.
func unique(flags []string) []string {
	out := make([]string, 0, len(flags))
	for _, f := range flags {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// actorDevice stands in the audit log where a phone acted for itself.
const actorDevice = "device"
