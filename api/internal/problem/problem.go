package problem

import (
	"fmt"

	"github.com/signet-hsm/signet/fault"
)

// Table is an index of rows by sentinel.
type Table[R any] struct {
	rows  map[string]R
	kinds map[string]fault.Kind
}

// NewTable indexes rows. It panics when two rows have one reason or none tells of
// fault.ErrUnavailable: tables are literals, so that is seen by the first test.
func NewTable[R any](rows []R, sentinel func(R) *fault.Error) *Table[R] {
	t := &Table[R]{rows: map[string]R{}, kinds: map[string]fault.Kind{}}
	for _, r := range rows {
		e := sentinel(r)
		if _, twice := t.rows[e.Reason]; twice {
			panic(fmt.Sprintf("problem: two rows for %s", e.Reason))
		}
		t.rows[e.Reason], t.kinds[e.Reason] = r, e.Kind
	}
	if _, ok := t.rows[fault.ErrUnavailable.Reason]; !ok {
		panic("problem: no row for outages")
	}
	return t
}

// Find returns the row of err and the *fault.Error that err carries. An outage
// below a domain (an HSM sentinel, say) is fault.ErrUnavailable's. ok is false for
// everything else: an error nobody declared, or declared and forgot here, is
// told as an internal one.
func (t *Table[R]) Find(err error) (row R, f *fault.Error, ok bool) {
	f = fault.Of(err)
	if f == nil {
		return row, nil, false
	}
	if r, known := t.rows[f.Reason]; known && t.kinds[f.Reason] == f.Kind {
		return r, f, true
	}
	if f.Kind == fault.Unavailable {
		return t.rows[fault.ErrUnavailable.Reason], f, true
	}
	return row, f, false
}

// Reasons lists what has a row, for the test of completeness.
func (t *Table[R]) Reasons() map[string]bool {
	m := map[string]bool{}
	for r := range t.rows {
		m[r] = true
	}
	return m
}
