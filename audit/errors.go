package audit

import "github.com/signet-hsm/signet/fault"

// ErrInvalid is a filter or an event that breaks a rule of this package.
var ErrInvalid = fault.New(fault.Invalid, "AUDIT_INVALID", "the audit request is not valid")

// ErrBroken is a chain that can not be extended as the database stands.
var ErrBroken = fault.New(fault.Internal, "AUDIT_BROKEN", "the audit chain is broken")

// What PA-AUD-01 calls ERROR_AUDIT.
var (
	// ErrPeriod is a from after its to, or a time that no event can have.
	ErrPeriod = fault.New(fault.Invalid, "AUDIT_PERIOD", "the period of the audit log is not valid")
	// ErrUser is a user of whom nothing is known in the caller's applications.
	ErrUser = fault.New(fault.NotFound, "AUDIT_USER", "the user is not known")
)
