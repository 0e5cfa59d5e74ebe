package push

import (
	"errors"

	"github.com/signet-hsm/signet/fault"
)

var (
	// ErrMessage is a message that can not be sent as it is (ERROR_PUSH_MESSAGE).
	// Its text says why; errors.Is matches every such text.
	ErrMessage = fault.New(fault.Invalid, "PUSH_MESSAGE", "Unable to send push message.")
	// ErrRequest carries the broken rules as violations (ERROR_REQUEST).
	ErrRequest = fault.New(fault.Invalid, "PUSH_REQUEST", "Invalid method parameter value")
	// ErrInboxNotFound is an inbox message that is not there, or another user's.
	ErrInboxNotFound = fault.New(fault.NotFound, "INBOX_NOT_FOUND", "inbox message not found")
	// ErrCredential is a stored credential that can not be used: an operator sets
	// it again.
	ErrCredential = fault.New(fault.Internal, "PUSH_CREDENTIAL", "the push credential can not be used")

	// errDead is what a sender answers for a token that will never work again.
	errDead = errors.New("the provider does not know the device any more")
)

func message(text string) *fault.Error { return fault.New(fault.Invalid, "PUSH_MESSAGE", text) }
