package otp

import "github.com/signet-hsm/signet/fault"

var (
	ErrKey    = fault.New(fault.Invalid, "OTP_KEY", "the key of a one-time password has at least 16 bytes")
	ErrScheme = fault.New(fault.Invalid, "OTP_SCHEME", "one-time passwords have 4 to 10 digits and a known hash")
	ErrTime   = fault.New(fault.Invalid, "OTP_TIME", "time lies before 1970 or the step is not whole seconds")
	ErrSuite  = fault.New(fault.Invalid, "OCRA_SUITE", "OCRA suite is malformed or not supported")
	ErrInput  = fault.New(fault.Invalid, "OCRA_INPUT", "input does not fit the OCRA suite")
)
