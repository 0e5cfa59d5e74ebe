// Package group lets concurrent calls share one flush, as a database's group
// commit does: what comes while a flush is under way waits and goes into the
// next one together. There is no timer, so a lone call waits for nobody. Batches
// grow by themselves when the store is the bottleneck, and also when the cores
// are: before it flushes, a leader gives its core to who is ready to run, as long
// as that brings more calls. Without it, 256 callers on two cores made flushes of
// eight, since what they had in common was only that they waited for a core.
//
// # Promises
//
// A call is answered only after the flush that held it returned. Each item has
// its own answer. A batch that fails in a way that one item may have caused
// (Config.Alone) is flushed again one by one, so that a bad item fails alone.
//
// A call whose context ends while it waits is taken out: it was never flushed.
// One whose context ends during its flush gets an error as well, and its outcome
// is unknown to it, as after any lost answer. Both errors wrap
// fault.ErrUnavailable and the context's. The flush itself does not end with the
// call that happens to lead it: it has a time of its own.
//
// A full queue, or one that the caller's deadline can not outlast by what
// flushes took lately, refuses at once with ErrBusy (fault kind Unavailable):
// under overload the work that is done stays useful.
//
// # States
//
// A lane is idle or has one leader, a caller that flushes for all; leadership
// goes to the oldest waiting call when a flush ends. No goroutine is started and
// nothing needs closing. Items with one key go to one lane; the order within a
// lane is that of arrival.
//
// Owns: no table, no file. Safe for concurrent use.
package group
