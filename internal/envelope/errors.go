package envelope

import "github.com/signet-hsm/signet/fault"

var (
	// ErrCorrupt: the blob, or the tenant's sealed DEK, is not what was sealed for
	// this place. It says so only after the key has been applied.
	ErrCorrupt = fault.New(fault.Internal, "ENVELOPE_CORRUPT", "stored data is damaged")
	// ErrKEK: the tenant's DEK was sealed by another key-encryption key.
	ErrKEK = fault.New(fault.Internal, "ENVELOPE_KEK", "stored data belongs to another key")
	// ErrField: a part of the place is empty, or the tenant does not exist; a
	// defect of the caller.
	ErrField = fault.New(fault.Internal, "ENVELOPE_FIELD", "internal error")
)
