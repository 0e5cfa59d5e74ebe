package callback

import (
	"sync"
	"time"
)

// breakers keeps one breaker for each endpoint that is in use or in trouble; one
// that is well and idle takes no memory.
type breakers struct {
	rules Breaker
	most  int // attempts under way at one endpoint
	now   func() time.Time

	mu sync.Mutex // guards at and what it points to
	at map[string]*breaker
}

type breaker struct {
	running  int
	failures int // in a row
	open     time.Duration
	until    time.Time // while it is open; then one attempt may try
}

func newBreakers(rules Breaker, most int, now func() time.Time) *breakers {
	if rules.Failures == 0 {
		rules.Failures = 5
	}
	if rules.Open == 0 {
		rules.Open = 30 * time.Second
	}
	if rules.MaxOpen == 0 {
		rules.MaxOpen = 10 * time.Minute
	}
	return &breakers{rules: rules, most: most, now: now, at: map[string]*breaker{}}
}

// busy is how long to wait for an endpoint that has enough to do.
const busy = time.Second

// enter asks for an attempt. When it is refused, wait says for how long; when it
// is granted, leave must be called.
func (b *breakers) enter(endpoint string) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.at[endpoint]
	if e == nil {
		e = &breaker{}
		b.at[endpoint] = e
	}
	most := b.most
	if e.failures >= b.rules.Failures {
		if wait := e.until.Sub(b.now()); wait > 0 {
			return wait, false
		}
		most = 1 // half open
	}
	if e.running >= most {
		return busy, false
	}
	e.running++
	return 0, true
}

// leave tells how the attempt went.
func (b *breakers) leave(endpoint string, well bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.at[endpoint]
	e.running--
	if well {
		e.failures, e.open = 0, 0
		if e.running == 0 {
			delete(b.at, endpoint)
		}
		return
	}
	e.failures++
	if e.failures < b.rules.Failures || b.now().Before(e.until) {
		return // not yet, or a straggler from before it opened
	}
	e.open = min(max(2*e.open, b.rules.Open), b.rules.MaxOpen)
	e.until = b.now().Add(e.open)
}
