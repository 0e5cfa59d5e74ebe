package registration

import "github.com/signet-hsm/signet/signature"

// standing is the part of a registration that verdicts move. Its methods are the
// whole rule; they know no database.
type standing struct {
	state            State
	ctr              signature.Counter
	counter          int64 // counters used so far; never goes down
	failed           int   // wrong signatures in a row, what is compared with max
	failedPossession int   // how many of failed were signed by possession alone
	max              int
	blocked          *string
}

// pass is the standing after a signature that matched. Possession alone proves
// less than what a wrong PIN was tried with, so it clears its own failures only.
func (s standing) pass(m signature.Match) standing {
	s.ctr = m.Next
	s.counter += int64(m.Offset) + 1
	if m.Factors == signature.Possession {
		s.failed -= s.failedPossession
	} else {
		s.failed = 0
	}
	s.failedPossession = 0
	return s
}

// fail is the standing after a wrong signature.
func (s standing) fail(f signature.Factor) standing {
	s.failed++
	if f == signature.Possession {
		s.failedPossession++
	}
	if s.spent() {
		return s.block()
	}
	return s
}

// spent reports whether no attempt is left.
func (s standing) spent() bool { return s.failed >= s.max }

func (s standing) block() standing {
	reason := BlockedMaxFailedAttempts
	s.state, s.blocked = StateBlocked, &reason
	return s
}

func (s standing) remaining() int { return max(s.max-s.failed, 0) }
