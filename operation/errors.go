package operation

import "github.com/signet-hsm/signet/fault"

// What the applications' side (seed 004) tells apart.
var (
	// ErrNotFound: unknown, another application's, another tenant's; for a device
	// also another user's.
	ErrNotFound = fault.New(fault.NotFound, "OPERATION_NOT_FOUND", "operation with given ID was not found")
	// ErrState: the state, or the way the operation may be decided, refuses this.
	ErrState = fault.New(fault.Conflict, "OPERATION_STATE_CHANGE", "operation is in invalid state for requested action")
	// ErrOTPForm: the OTP has none of the three written forms. Nothing was counted.
	ErrOTPForm = fault.New(fault.Invalid, "OTP_INVALID", "operation OTP format is invalid, OTP validation skipped")
	// ErrUndecided: a check of this very OTP is under way, or was cut short, and
	// whether it was used up is not known. Nothing was counted now. The caller
	// reads the operation and, when it is PENDING, makes a new QR code.
	ErrUndecided = fault.New(fault.Conflict, "OPERATION_OTP_UNDECIDED",
		"an earlier check of this OTP has no known outcome: read the operation and use a new QR code")
	// ErrInvalid carries the broken rules as violations.
	ErrInvalid = fault.New(fault.Invalid, "OPERATION_INVALID", "the request is not valid")
	// ErrData: a text is no operation data.
	ErrData = fault.New(fault.Invalid, "OPERATION_DATA", "the operation data is not valid")
)

// What the administration of templates tells apart.
var (
	ErrTemplateNotFound = fault.New(fault.NotFound, "OPERATION_TEMPLATE_NOT_FOUND", "operation template not found")
	ErrTemplateExists   = fault.New(fault.Conflict, "OPERATION_TEMPLATE_EXISTS", "an operation template with this name exists")
)

// What a device is told; the reasons are the codes of the mobile token API.
var (
	ErrFinished = fault.New(fault.Conflict, "OPERATION_ALREADY_FINISHED", "operation is already finished")
	ErrFailed   = fault.New(fault.Conflict, "OPERATION_ALREADY_FAILED", "operation is already failed")
	ErrCanceled = fault.New(fault.Conflict, "OPERATION_ALREADY_CANCELED", "operation is already canceled")
	ErrExpired  = fault.New(fault.Conflict, "OPERATION_EXPIRED", "operation is expired")
	// ErrFlag: the registration lacks the operation's flag.
	ErrFlag = fault.New(fault.Forbidden, "OPERATION_REQUIRES_ACTIVATION_FLAG", "operation requires an activation flag that is missing")
	// ErrActivation: the registration is still being verified and may not decide.
	ErrActivation = fault.New(fault.Forbidden, "INVALID_ACTIVATION", "activation is not allowed to decide operations")
	// ErrRefused: the approval does not fit the operation and was counted.
	ErrRefused = fault.New(fault.Unauthenticated, "OPERATION_FAILED", "operation approval failed")
)

// errStored is a row that no code of ours has written.
var errStored = fault.New(fault.Internal, "OPERATION_STORED", "the stored operation is damaged")
