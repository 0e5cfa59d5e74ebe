package linear

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// step is a call with its place in time.
type step struct {
	client   int
	call     Call
	answer   Answer
	from, to time.Duration
}

func sign(index int) Call { return Call{Kind: Signature, Object: "r", Index: index} }

func active(valid bool, remaining int) Answer {
	return Answer{Valid: valid, Status: "ACTIVE", Remaining: remaining}
}

// Histories that must be refused stand beside their nearest right neighbours: a
// checker that says yes to everything, or no, fails here.
func TestCheck(t *testing.T) {
	t.Parallel()
	token := Call{Kind: Token, Object: "n"}
	otp, wrongOTP := Call{Kind: OTP, Object: "o"}, Call{Kind: OTP, Object: "o", Index: Wrong}
	possession := Call{Kind: Signature, Object: "r", Index: Wrong, Possession: true}
	unblock := Call{Kind: Unblock, Object: "r"}
	lost, blocked := Answer{Unknown: true}, Answer{Status: "BLOCKED"}
	for name, c := range map[string]struct {
		steps []step
		good  bool
	}{
		"once, then refused": {[]step{{1, sign(0), active(true, 5), 0, 1}, {2, sign(0), active(false, 4), 2, 3}}, true},
		"accepted twice":     {[]step{{1, sign(0), active(true, 5), 0, 1}, {2, sign(0), active(true, 5), 2, 3}}, false},
		"accepted twice at once": {[]step{
			{1, sign(0), active(true, 5), 0, 9}, {2, sign(0), active(true, 5), 0, 9},
		}, false},
		"refused before, accepted after": {[]step{{1, sign(0), active(false, 4), 0, 1}, {2, sign(0), active(true, 5), 2, 3}}, false},
		"refused beside":                 {[]step{{1, sign(0), active(false, 4), 0, 2}, {2, sign(0), active(true, 5), 1, 3}}, true},
		"last of the window":             {[]step{{1, sign(19), active(true, 5), 0, 1}}, true},
		"behind the window":              {[]step{{1, sign(20), active(true, 5), 0, 1}}, false},
		"an earlier counter comes back":  {[]step{{1, sign(3), active(true, 5), 0, 1}, {2, sign(2), active(true, 5), 2, 3}}, false},
		"a failure that does not count": {[]step{
			{1, sign(Wrong), active(false, 4), 0, 1}, {1, sign(Wrong), active(false, 4), 2, 3},
		}, false},
		"five wrong block": {[]step{
			{1, sign(Wrong), active(false, 4), 0, 9},
			{2, sign(Wrong), active(false, 3), 0, 9},
			{3, sign(Wrong), active(false, 2), 0, 9},
			{4, sign(Wrong), active(false, 1), 0, 9},
			{5, sign(Wrong), blocked, 0, 9},
			{6, sign(0), blocked, 10, 11},
			{1, unblock, Answer{Valid: true}, 12, 13},
			{1, unblock, Answer{Refused: RefusedState}, 14, 15},
			{6, sign(0), active(true, 5), 16, 17},
		}, true},
		"blocked one early": {[]step{
			{1, sign(Wrong), active(false, 4), 0, 9},
			{2, sign(Wrong), active(false, 3), 0, 9},
			{3, sign(Wrong), active(false, 2), 0, 9},
			{5, sign(Wrong), blocked, 0, 9},
		}, false},
		"a blocked one accepts": {[]step{
			{1, sign(Wrong), active(false, 4), 0, 9},
			{2, sign(Wrong), active(false, 3), 0, 9},
			{3, sign(Wrong), active(false, 2), 0, 9},
			{4, sign(Wrong), active(false, 1), 0, 9},
			{5, sign(Wrong), blocked, 0, 9},
			{6, sign(0), active(true, 5), 10, 11},
		}, false},
		"possession clears its own failures only": {[]step{
			{1, sign(Wrong), active(false, 4), 0, 1},
			{1, possession, active(false, 3), 2, 3},
			{1, Call{Kind: Signature, Object: "r", Possession: true}, active(true, 4), 4, 5},
		}, true},
		"possession clears all": {[]step{
			{1, sign(Wrong), active(false, 4), 0, 1},
			{1, possession, active(false, 3), 2, 3},
			{1, Call{Kind: Signature, Object: "r", Possession: true}, active(true, 5), 4, 5},
		}, false},
		"lost, and happened":       {[]step{{1, sign(0), lost, 0, 1}, {2, sign(0), active(false, 4), 2, 3}}, true},
		"lost, and did not happen": {[]step{{1, sign(0), lost, 0, 1}, {2, sign(0), active(true, 5), 2, 3}}, true},
		"lost, happened later": {[]step{
			{1, sign(0), lost, 0, 1}, {2, sign(Wrong), active(false, 4), 2, 3}, {2, sign(0), active(false, 4), 4, 5},
		}, true},
		"lost explains one failure, not two": {[]step{
			{1, sign(0), lost, 0, 1}, {2, sign(0), active(false, 3), 2, 3},
		}, false},
		"an acknowledged verdict is lost": {[]step{{1, sign(0), active(true, 5), 0, 1}, {2, sign(1), lost, 2, 3}, {2, sign(0), active(true, 5), 4, 5}}, false},

		"token once":           {[]step{{1, token, Answer{Valid: true}, 0, 9}, {2, token, Answer{}, 0, 9}}, true},
		"token twice":          {[]step{{1, token, Answer{Valid: true}, 0, 9}, {2, token, Answer{Valid: true}, 0, 9}}, false},
		"token never":          {[]step{{1, token, Answer{}, 0, 9}, {2, token, Answer{}, 0, 9}}, false},
		"token lost":           {[]step{{1, token, lost, 0, 1}, {2, token, Answer{}, 2, 3}}, true},
		"token lost and twice": {[]step{{1, token, lost, 0, 1}, {2, token, Answer{Valid: true}, 2, 3}, {2, token, Answer{Valid: true}, 4, 5}}, false},

		"otp once": {[]step{
			{1, otp, Answer{Valid: true}, 0, 9},
			{2, otp, Answer{Refused: RefusedUndecided}, 0, 9},
			{3, wrongOTP, Answer{}, 0, 9},
			{2, otp, Answer{Refused: RefusedState}, 10, 11},
		}, true},
		"otp twice":                  {[]step{{1, otp, Answer{Valid: true}, 0, 9}, {2, otp, Answer{Valid: true}, 0, 9}}, false},
		"right otp called wrong":     {[]step{{1, otp, Answer{Valid: true}, 0, 9}, {2, otp, Answer{}, 0, 9}}, false},
		"wrong otp approves":         {[]step{{1, wrongOTP, Answer{Valid: true}, 0, 9}}, false},
		"undecided after the end":    {[]step{{1, otp, Answer{Valid: true}, 0, 1}, {2, otp, Answer{Refused: RefusedUndecided}, 2, 3}}, false},
		"ended before it was judged": {[]step{{1, otp, Answer{Refused: RefusedState}, 0, 1}, {2, otp, Answer{Valid: true}, 2, 3}}, false},
	} {
		h := NewHistory()
		for _, s := range c.steps {
			h.add(s.client, s.call, s.answer, s.from, s.to)
		}
		err := h.Check(time.Minute)
		if c.good {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, "no order found (Illegal)", name)
		}
	}
}

// server is a node that accepts by reading, thinking and writing; guarded it
// compares before it writes.
type server struct {
	guarded bool
	mu      sync.Mutex
	state   registration
}

func (s *server) verify(c Call) Answer {
	for {
		s.mu.Lock()
		before := s.state
		s.mu.Unlock()
		next, answer := before.do(c)
		time.Sleep(50 * time.Microsecond)
		s.mu.Lock()
		won := s.state == before || !s.guarded
		if won {
			s.state = next.(registration)
		}
		s.mu.Unlock()
		if won {
			return answer
		}
	}
}

// A server without its compare-and-swap is found out by a history that was really
// raced, and one with it is not.
func TestALostCompareAndSwapIsFound(t *testing.T) {
	t.Parallel()
	for _, guarded := range []bool{true, false} {
		h, s := NewHistory(), &server{guarded: guarded}
		for round := range 20 {
			var wg sync.WaitGroup
			var ready atomic.Int32
			for client := range 4 {
				wg.Go(func() {
					for ready.Add(1); ready.Load() < 4; { // all at once
						runtime.Gosched()
					}
					h.Record(client, sign(round), func() (Answer, bool) { return s.verify(sign(round)), true })
				})
			}
			wg.Wait()
		}
		f := h.Figures()
		require.Equal(t, 80, f.Calls)
		require.Positive(t, f.Overlapping)
		if guarded {
			require.Equal(t, 20, f.Accepted)
		}
		err := h.Check(time.Minute)
		require.Equal(t, guarded, err == nil, "%v", err)
	}
}

// What was never sent is no part of the history.
func TestNotSent(t *testing.T) {
	t.Parallel()
	h := NewHistory()
	h.Record(0, sign(0), func() (Answer, bool) { return Answer{}, false })
	require.Zero(t, h.Figures().Calls)
}
