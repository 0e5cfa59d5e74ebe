package hsm

import (
	"context"
	"errors"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/signet-hsm/signet/fault"
)

// Failure is an error of an Engine as plain data: what errors.Is, fault.Of and
// errors.As to a pkcs11.Error would find in it, and its text. It crosses a
// process boundary without loss of class.
type Failure struct {
	Reasons []string  // fault.Error.Reason of the sentinels in the error, the decisive one first
	CKR     uint      // the module's return value, 0 without one
	Context Interrupt // the caller's context ended
	Text    string    // for the log; holds no secret
}

// Interrupt says how a context ended.
type Interrupt uint8

const (
	NotInterrupted Interrupt = 0
	Canceled       Interrupt = 1
	DeadlinePassed Interrupt = 2
)

// sentinels are all the errors that an engine may wrap.
var sentinels = []*fault.Error{
	fault.ErrUnavailable, ErrKeyNotFound, ErrExists, ErrAmbiguous, ErrTemplate, ErrSeparation, ErrSelfTest, ErrPIN, ErrTokenNotFound, ErrFull, ErrSignature,
	ErrUnsupported, ErrRefused, ErrTag, ErrRef, ErrClosed, ErrConfig,
}

// FailureOf takes an error apart; of nil it is the zero Failure.
func FailureOf(err error) Failure {
	if err == nil {
		return Failure{}
	}
	f := Failure{Text: err.Error()}
	if first := fault.Of(err); first != nil && slices.ContainsFunc(sentinels, func(s *fault.Error) bool { return s.Is(first) }) {
		f.Reasons = append(f.Reasons, first.Reason)
	}
	for _, s := range sentinels {
		if errors.Is(err, s) && !slices.Contains(f.Reasons, s.Reason) {
			f.Reasons = append(f.Reasons, s.Reason)
		}
	}
	var rv p11.Error
	if errors.As(err, &rv) {
		f.CKR = uint(rv)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		f.Context = DeadlinePassed
	case errors.Is(err, context.Canceled):
		f.Context = Canceled
	}
	return f
}

// Err puts the error together again; nil for the zero Failure. Reasons that are
// not known are left out: an error without any is fault.Internal, as everywhere.
func (f Failure) Err() error {
	if f.Text == "" && len(f.Reasons) == 0 && f.CKR == 0 && f.Context == NotInterrupted {
		return nil
	}
	e := &failed{text: f.Text}
	for _, r := range f.Reasons {
		for _, s := range sentinels {
			if s.Reason == r {
				e.chain = append(e.chain, s)
			}
		}
	}
	if f.CKR != 0 {
		e.chain = append(e.chain, p11.Error(f.CKR))
	}
	switch f.Context {
	case Canceled:
		e.chain = append(e.chain, context.Canceled)
	case DeadlinePassed:
		e.chain = append(e.chain, context.DeadlineExceeded)
	}
	return e
}

// failed is an error that came as a Failure.
type failed struct {
	text  string
	chain []error
}

func (e *failed) Error() string   { return e.text }
func (e *failed) Unwrap() []error { return e.chain }
