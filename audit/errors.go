package audit

import "github.com/signet-hsm/signet/fault"

// ErrInvalid is a filter or an event that breaks a rule of this package.
var ErrInvalid = fault.New(fault.Invalid, "AUDIT_INVALID", "the audit request is not valid")
