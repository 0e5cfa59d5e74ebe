package ceremony

import "time"

// Start is Run with a clock of the test's.
var Start = start

// RehearseInMemory is the part of Execute that needs no token.
var RehearseInMemory = rehearse

// WithClock sets a clock of the test's.
func WithClock(o *Options, now func() time.Time) { o.now = now }
