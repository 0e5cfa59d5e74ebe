package linear

import "github.com/anishathalye/porcupine"

// Rules of the protocol, as numbers.
const (
	window   = 20 // counters tried, from the next one on
	attempts = 5  // wrong signatures in a row
)

// state is one object by the rules. States are values that compare with ==.
type state interface {
	// do is the state after the call, and the only answer that is right.
	do(c Call) (state, Answer)
	// may reports whether another answer is right as well, with no effect.
	may(c Call, a Answer) bool
}

func model(k Kind) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return initial(k) },
		Step: func(s, input, output any) (bool, any) {
			c, a := input.(Call), output.(Answer)
			next, right := s.(state).do(c)
			switch {
			case a.Unknown, a == right:
				return true, next
			case s.(state).may(c, a):
				return true, s
			}
			return false, s
		},
	}
}

func initial(k Kind) state {
	switch k {
	case Token:
		return nonce{}
	case OTP:
		return operation{}
	}
	return registration{}
}

// registration is ACTIVE, or BLOCKED by wrong signatures.
type registration struct {
	next       int // the first counter that is still good
	failed     int // wrong signatures in a row
	possession int // of them by possession alone
	blocked    bool
}

func (r registration) do(c Call) (state, Answer) {
	if c.Kind == Unblock {
		if !r.blocked {
			return r, Answer{Refused: RefusedState}
		}
		return registration{next: r.next}, Answer{Valid: true}
	}
	if r.blocked {
		return r, Answer{Status: "BLOCKED"}
	}
	if c.Index >= r.next && c.Index < r.next+window { // Wrong is below any
		r.next = c.Index + 1
		if c.Possession {
			r.failed -= r.possession
		} else {
			r.failed = 0
		}
		r.possession = 0
		return r, Answer{Valid: true, Status: "ACTIVE", Remaining: attempts - r.failed}
	}
	r.failed++
	if c.Possession {
		r.possession++
	}
	if r.failed == attempts {
		r.blocked = true
		return r, Answer{Status: "BLOCKED"}
	}
	return r, Answer{Status: "ACTIVE", Remaining: attempts - r.failed}
}

func (registration) may(Call, Answer) bool { return false }

// nonce is a token header with a right digest.
type nonce struct{ used bool }

func (n nonce) do(Call) (state, Answer) { return nonce{true}, Answer{Valid: !n.used} }

func (nonce) may(Call, Answer) bool { return false }

// operation waits for the OTP of one QR code. Wrong OTPs are too few to end it.
type operation struct{ approved bool }

func (o operation) do(c Call) (state, Answer) {
	switch {
	case o.approved:
		return o, Answer{Refused: RefusedState}
	case c.Index == Wrong:
		return o, Answer{}
	}
	return operation{true}, Answer{Valid: true}
}

// may: while one check of an OTP has no outcome, further ones of it get none.
func (o operation) may(_ Call, a Answer) bool {
	return !o.approved && a == Answer{Refused: RefusedUndecided}
}
