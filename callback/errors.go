package callback

import (
	"github.com/signet-hsm/signet/fault"
)

var (
	// ErrInvalid carries the broken rules as violations.
	ErrInvalid = fault.New(fault.Invalid, "CALLBACK_INVALID", "the callback is not valid")
	// ErrExists is a name that the application uses already.
	ErrExists = fault.New(fault.Conflict, "CALLBACK_EXISTS", "the application has a callback with this name")
	// ErrLimit is an application with MaxEndpoints callbacks.
	ErrLimit = fault.New(fault.Conflict, "CALLBACK_LIMIT", "the application has too many callbacks")
	// ErrNotFound is a callback that is not there, or another application's.
	ErrNotFound = fault.New(fault.NotFound, "CALLBACK_NOT_FOUND", "callback not found")
)
