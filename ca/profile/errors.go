package profile

import "github.com/signet-hsm/signet/fault"

// ErrFile: a file of profiles or blocked keys is not usable.
var ErrFile = fault.New(fault.Invalid, "PROFILE_FILE", "a file of certificate profiles or blocked keys is not usable")
