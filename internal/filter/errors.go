package filter

import (
	"strconv"

	"github.com/signet-hsm/signet/fault"
)

// The two failures that the seed names. Their messages are the seed's words.
var (
	// ErrProperty: the list has no such property.
	ErrProperty = fault.New(fault.Invalid, "FILTER_PROPERTY", "UnknownProperty")
	// ErrSyntax: the text is not a filter.
	ErrSyntax = fault.New(fault.Invalid, "FILTER_SYNTAX", "ParsingError")
)

// Error is what Parse returns. It repeats no value of the text: values may be
// personal, and errors are logged.
type Error struct {
	Column int    // where, counted in characters from 1; one past the end if something is missing there
	Hint   string // what was expected
	kind   *fault.Error
}

func (e *Error) Error() string {
	return e.kind.Message + " at column " + strconv.Itoa(e.Column) + ": " + e.Hint
}

// Unwrap returns ErrProperty or ErrSyntax with a violation of the field filter.
func (e *Error) Unwrap() error {
	return e.kind.With(fault.Violation{Field: "filter", Hint: "column " + strconv.Itoa(e.Column) + ": " + e.Hint})
}
