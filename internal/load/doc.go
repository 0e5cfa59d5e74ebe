// Package load calls something again and again and says how long it took: in a
// closed loop, where each caller waits for its answer before it calls again, or at
// a given rate, where calls are due whether the last ones were answered or not.
//
// At a rate, the time of a call counts from when it was due and not from when a
// caller was free for it: a server that stalls is charged for every call that it
// kept waiting ("coordinated omission").
//
// Times are kept in an HDR histogram per kind of call, three digits exact, up to a
// minute. When the context ends, no call begins any more, and those at work are
// waited for: what they did is known and counted.
//
// States: none beyond a Run. Owns: nothing. Callers: cmd.
package load
