package registration

import (
	"time"

	"github.com/maypok86/otter/v2"
)

// askedEvery bounds the records of phones that go on asking about a registration
// that is not ACTIVE.
const askedEvery = time.Minute

// askedSize is how many registrations are remembered: what is forgotten is only
// recorded once more.
const askedSize = 10_000

// asked remembers when a phone's question was recorded last. An app that does not
// give up, or whoever knows an id, could else write a row of a log that is never
// pruned with every request. Leaving rows out is safe because no such question
// decides or changes anything: how the registration came to its state is in the
// log, and so is that it is still asked for, once a minute on each node. The
// metrics count all of them.
type asked struct {
	last *otter.Cache[keyID, time.Time]
}

func newAsked() asked {
	return asked{otter.Must(&otter.Options[keyID, time.Time]{MaximumSize: askedSize})}
}

// due reports whether the question is to be recorded. Two that come at once may
// both be.
func (a asked) due(k keyID, now time.Time) bool {
	at, ok := a.last.GetIfPresent(k)
	return !ok || now.Sub(at).Abs() >= askedEvery
}

// recorded remembers one that was.
func (a asked) recorded(k keyID, now time.Time) { a.last.Set(k, now) }
