package outbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/signet-hsm/signet/fault"
)

var (
	// ErrInvalid is an event that can not be encoded; a defect of the caller.
	ErrInvalid = fault.New(fault.Internal, "OUTBOX_EVENT", "internal error")
	// ErrNotFound is a dead letter that is not there, or another tenant's.
	ErrNotFound = fault.New(fault.NotFound, "DEAD_LETTER_NOT_FOUND", "dead letter not found")
)

type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks err as one that no further attempt can mend.
func Permanent(err error) error { return permanentError{err} }

// IsPermanent reports whether err was marked by Permanent.
func IsPermanent(err error) bool {
	var p permanentError
	return errors.As(err, &p)
}

type laterError struct {
	error
	after time.Duration
}

func (e laterError) Unwrap() error { return e.error }

// Later asks to try again after at least d, without counting an attempt: the
// receiver said when, or was not asked at all. The age limit still holds.
func Later(d time.Duration, err error) error {
	return laterError{fmt.Errorf("after %s: %w", d, err), d}
}

// After returns what Later was given.
func After(err error) (time.Duration, bool) {
	var l laterError
	ok := errors.As(err, &l)
	return l.after, ok
}
