package access

import "github.com/signet-hsm/signet/fault"

// What a caller may be told. Which of the many reasons made a credential bad is
// for the log alone.
var (
	// ErrUnauthenticated: no credentials, or none that signet vouches for.
	ErrUnauthenticated = fault.New(fault.Unauthenticated, "UNAUTHENTICATED", "missing or wrong credentials")
	// ErrForbidden: good credentials without the privilege, or of another tenant.
	// An unknown tenant is answered the same way.
	ErrForbidden = fault.New(fault.Forbidden, "FORBIDDEN", "the credentials do not allow this")
	// ErrCredential: a new credential breaks a rule.
	ErrCredential = fault.New(fault.Invalid, "CREDENTIAL_INVALID", "the credential is not valid")
	// ErrUserExists: usernames are unique over the whole installation.
	ErrUserExists = fault.New(fault.Conflict, "USER_EXISTS", "the username is taken")
	// ErrUserUnknown: no such user in this tenant.
	ErrUserUnknown = fault.New(fault.NotFound, "USER_UNKNOWN", "no such user")
	// ErrBusy: too many calls are at work, of these credentials or of all.
	ErrBusy = fault.New(fault.Exhausted, "TOO_MANY_CALLS", "too many calls are at work at once")
	// ErrConfig: a realm or another setting can not work.
	ErrConfig = fault.New(fault.Internal, "ACCESS_CONFIG", "access is not configured correctly")
)
