package rollback

import "github.com/signet-hsm/signet/fault"

// ErrHeld refuses a verdict: the database was set back and no operator has dealt
// with it yet. For callers it is an outage.
var ErrHeld = fault.New(fault.Unavailable, "ROLLBACK_HELD",
	"verification is held: the database was set back in time")

// Errors of Release.
var (
	// ErrAdvance is a number of signatures that Release does not take.
	ErrAdvance = fault.New(fault.Invalid, "ROLLBACK_ADVANCE", "advance must be from 1 to 10000")
	// ErrNotHeld is a tenant without a hold.
	ErrNotHeld = fault.New(fault.Conflict, "ROLLBACK_NOT_HELD", "the tenant is not held")
	// ErrBegun is another number than the one that a release was begun with.
	ErrBegun = fault.New(fault.Conflict, "ROLLBACK_BEGUN", "the release was begun with another advance")
)

// errBack refuses the connection that showed the step back.
var errBack = fault.New(fault.Unavailable, "ROLLBACK_FOUND", "the database was set back in time")
