// Package outbox carries what a domain has to tell the outside world, from the
// transaction in which it became true to the worker that tells it.
//
// Promises: an event added by AddTx is delivered at least once when that
// transaction commits and never when it rolls back; adding costs one INSERT and
// no network, so a slow receiver never slows a request. Order between events is
// not kept. Data is small and has no secrets: it lies in the clear in the
// database and dead letters keep it for days.
//
// Callers: every domain to add (through the Queue interface; Discard when a node
// delivers nothing), packages push and callback to work. Safe for concurrent use.
package outbox
