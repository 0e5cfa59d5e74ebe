package app

import "github.com/signet-hsm/signet/fault"

var (
	// ErrNotFound is an unknown application or application key; another
	// tenant's is unknown too.
	ErrNotFound = fault.New(fault.NotFound, "APP_NOT_FOUND", "application not found")
	// ErrExists is a Create of a name that is taken.
	ErrExists = fault.New(fault.Conflict, "APP_EXISTS", "an application with this id exists")
	// ErrInvalid carries the broken rules as violations.
	ErrInvalid = fault.New(fault.Invalid, "APP_INVALID", "the application is not valid")
	// ErrMaster is a master key in the HSM that is not the one of the row: an
	// operator must look at the token and the database.
	ErrMaster = fault.New(fault.Internal, "APP_MASTER_KEY", "the master key of the application does not match")
	// ErrVersion is a version that is unknown or was called back; the text is
	// the one of the PowerAuth API.
	ErrVersion = fault.New(fault.NotFound, "APP_VERSION", "No enabled application version was found")
	// ErrVersionExists is a new version of a name that is taken.
	ErrVersionExists = fault.New(fault.Conflict, "APP_VERSION_EXISTS", "a version with this name exists")
	// ErrRotated is a rotation that another call finished first.
	ErrRotated = fault.New(fault.Conflict, "APP_ROTATED", "the master key was rotated by another call")
)
