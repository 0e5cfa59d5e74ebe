package registration

import "github.com/signet-hsm/signet/fault"

// What the applications' side (seed 004) tells apart.
var (
	// ErrNotFound: unknown, removed, another application's or another tenant's.
	ErrNotFound = fault.New(fault.NotFound, "REGISTRATION_NOT_FOUND", "registration not found")
	// ErrNotAllowed: another registration of the user and application is in
	// progress.
	ErrNotAllowed = fault.New(fault.Conflict, "REGISTRATION_NOT_ALLOWED", "another registration of the user is in progress")
	// ErrChange: the state refuses the change.
	ErrChange = fault.New(fault.Conflict, "REGISTRATION_CHANGE", "the registration is in a state that does not allow the change")
	// ErrInvalid carries the broken rules as violations.
	ErrInvalid = fault.New(fault.Invalid, "REGISTRATION_INVALID", "the request is not valid")
)

// What the key exchange tells the device; the reasons are the codes of the
// reference server. ErrOTP is also what Commit answers to a wrong OTP.
var (
	ErrExpired      = fault.New(fault.Conflict, "ERR0007", "activation is expired or the application is not supported")
	ErrActivation   = fault.New(fault.NotFound, "ERR0009", "activation not found")
	ErrFormat       = fault.New(fault.Invalid, "ERR0011", "input has a wrong format")
	ErrDecrypt      = fault.New(fault.Invalid, "ERR0018", "request can not be decrypted")
	ErrRequest      = fault.New(fault.Invalid, "ERR0024", "request is not valid")
	ErrOTP          = fault.New(fault.Invalid, "ERR0031", "activation OTP is not valid")
	ErrTemporaryKey = fault.New(fault.Invalid, "ERR0045", "temporary key is unknown or can not be made")
)

// What a device's own signature is refused with.
var (
	// ErrSignature: wrong, or of a registration that is unknown or not ACTIVE.
	ErrSignature = fault.New(fault.Unauthenticated, "POWER_AUTH_SIGNATURE_INVALID", "the signature is not valid")
	// ErrSignatureType: the endpoint does not take these factors.
	ErrSignatureType = fault.New(fault.Unauthenticated, "POWER_AUTH_SIGNATURE_TYPE_INVALID", "the signature type is not allowed here")
)

// errStored is a row that no code of ours has written.
var errStored = fault.New(fault.Internal, "REGISTRATION_STORED", "the stored registration is damaged")
