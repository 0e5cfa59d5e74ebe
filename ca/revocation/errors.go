package revocation

import "github.com/signet-hsm/signet/fault"

var (
	// ErrReason: not a reason that a certificate can be revoked for.
	ErrReason = fault.New(fault.Invalid, "REVOCATION_REASON", "the revocation reason is not known")
	// ErrRecord: the caller's record is incomplete, or a row is not what it must be.
	ErrRecord = fault.New(fault.Internal, "REVOCATION_RECORD", "the revocation record is not consistent")
)
