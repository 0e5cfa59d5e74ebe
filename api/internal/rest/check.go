package rest

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/signet-hsm/signet/fault"
)

// Check collects the violations of one request, so that a client learns all of
// them at once.
type Check struct {
	violations []fault.Violation
}

// Fail adds a violation, unless the field has one: what follows from the first is
// no news. Pass a nil value when the field was missing or must not be repeated
// (an OTP, a signature).
func (c *Check) Fail(field string, value any, hint string) {
	for _, v := range c.violations {
		if v.Field == field {
			return
		}
	}
	c.violations = append(c.violations, fault.Violation{Field: field, Value: value, Hint: hint})
}

// Length wants a string of least..most characters.
func (c *Check) Length(field, value string, least, most int) {
	if n := utf8.RuneCountInString(value); n < least || n > most {
		c.Fail(field, repeat(value), fmt.Sprintf("size must be between %d and %d", least, most))
	}
}

// OneOf wants one of the values.
func OneOf[T ~string](c *Check, field string, value T, allowed ...T) {
	names := make([]string, len(allowed))
	for i, a := range allowed {
		if value == a {
			return
		}
		names[i] = string(a)
	}
	c.Fail(field, repeat(string(value)), "must be one of "+strings.Join(names, ", "))
}

// Query returns a query parameter that may be given once.
func (c *Check) Query(r *Request, name string) (value string, given bool) {
	q, err := url.ParseQuery(r.http.URL.RawQuery)
	values := q[name]
	switch {
	case err != nil:
		c.Fail(name, nil, "the query must be well-formed")
	case len(values) > 1:
		c.Fail(name, nil, "must be given once")
	case len(values) == 1 && !storable(values[0]):
		c.Fail(name, nil, hintText)
	case len(values) == 1:
		return values[0], true
	}
	return "", false
}

const hintText = "must be UTF-8 without the character NUL"

// storable reports whether s is text that PostgreSQL takes: what is none would
// only come back from there, as if the database were at fault.
func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// QueryInt returns an integer parameter in least..most, or def when it is not given.
func (c *Check) QueryInt(r *Request, name string, def, least, most int) int {
	s, given := c.Query(r, name)
	if !given {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		c.Fail(name, repeat(s), fmt.Sprintf("must be an integer between %d and %d", least, most))
		return def
	}
	return n
}

// Err returns ErrRequest with the violations, or nil.
func (c *Check) Err() error {
	if len(c.violations) == 0 {
		return nil
	}
	return ErrRequest.With(c.violations...)
}

// repeat is the value as an answer may repeat it: nothing when it was empty, and
// not without end.
func repeat(s string) any {
	const most = 256
	switch {
	case s == "":
		return nil
	case len(s) > most:
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
