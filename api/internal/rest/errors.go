package rest

import "github.com/signet-hsm/signet/fault"

// What the frame itself refuses. Each dialect's table has a row for each.
var (
	ErrURL       = fault.New(fault.NotFound, "URL_UNKNOWN", "Not found")
	ErrMethod    = fault.New(fault.Invalid, "METHOD_NOT_ALLOWED", "the URL does not have this method")
	ErrRequest   = fault.New(fault.Invalid, "REQUEST_INVALID", "the request is not valid")
	ErrTooLarge  = fault.New(fault.Invalid, "BODY_TOO_LARGE", "the request body is too large")
	ErrMediaType = fault.New(fault.Invalid, "MEDIA_TYPE", "the request body must be application/json")
	ErrBodyRead  = fault.New(fault.Invalid, "BODY_INCOMPLETE", "the request body did not arrive")
)
