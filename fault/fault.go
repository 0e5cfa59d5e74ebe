package fault

import "errors"

// Kind says whose fault an error is and what a caller may do about it.
type Kind uint8

const (
	Internal        Kind = iota // a defect or a broken invariant; the caller can do nothing
	Invalid                     // the request does not parse or breaks a documented rule
	Unauthenticated             // no credentials, or wrong ones
	Forbidden                   // good credentials without the right
	NotFound                    // unknown, or not yours: the two are never told apart
	Conflict                    // the object is in a state that refuses the change
	Locked                      // too many failures; an operator must act
	Exhausted                   // a limit was reached; later it may work
	Unavailable                 // HSM, database or another part is out; no verdict was made
)

var kindNames = [...]string{
	"internal", "invalid", "unauthenticated", "forbidden",
	"not_found", "conflict", "locked", "exhausted", "unavailable",
}

// String returns the lower-case name used in logs and metric labels.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Internal]
}

// Violation is one broken rule of a request.
type Violation struct {
	Field string // name as it stands in the request, e.g. "userId"
	Value any    // the refused value; nil when it was missing or must not be repeated
	Hint  string // what the value should be
}

// Error is a failure that signet foresaw.
type Error struct {
	Kind       Kind
	Reason     string // UPPER_SNAKE, stable, one per sentinel; a metric label and gRPC ErrorInfo reason
	Message    string // safe to show to a client
	Violations []Violation
}

// New makes a sentinel.
func New(k Kind, reason, message string) *Error {
	return &Error{Kind: k, Reason: reason, Message: message}
}

func (e *Error) Error() string { return e.Message }

// Is makes errors.Is match a copy that carries violations with its sentinel.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason && t.Kind == e.Kind
}

// With returns a copy of e that carries violations.
func (e *Error) With(v ...Violation) *Error {
	c := *e
	c.Violations = append(append([]Violation(nil), e.Violations...), v...)
	return &c
}

// Of finds the *Error in err's chain. An error without one gives nil: the
// adapters answer it as Internal with a text of their own.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// KindOf is Of(err).Kind, Internal for a foreign error.
func KindOf(err error) Kind {
	if e := Of(err); e != nil {
		return e.Kind
	}
	return Internal
}

// ErrUnavailable is what a domain wraps around a database, HSM or other outage
// that kept it from reaching a verdict.
var ErrUnavailable = New(Unavailable, "UNAVAILABLE", "the service is temporarily unavailable")
