// Package fault is signet's error vocabulary.
//
// Domain packages declare their expected failures as package-level sentinels of
// type *Error and wrap causes around them with %w; the sentinel's Message is the
// only text a client may ever see, the wrapped chain is for the log. Adapters
// (api/...) translate a sentinel to their dialect by one table each. An error
// that carries no *Error is Internal: Of never guesses.
//
// States: none. Owns: nothing. Callers: every package; it imports nothing of
// signet's. All values are immutable after init and safe for concurrent use.
package fault
