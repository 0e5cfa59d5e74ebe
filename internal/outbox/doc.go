// Package outbox carries what a domain has to tell the outside world, from the
// transaction in which it became true to the consumer that tells it.
//
// Promises: an event added by AddTx is delivered at least once when that
// transaction commits and never when it rolls back; adding costs one INSERT and
// no network, so a slow receiver never slows a request. Order between events is
// not kept: Event.ID is a UUIDv7, by which a receiver can order. Data is small
// and has no secrets: it lies in the clear in the database, dead letters for
// thirty days.
//
// An event is expanded, in one transaction, into one delivery for each target
// that a Consumer names (an endpoint, a device); from then on each delivery has
// its own attempts, so that one dead receiver repeats nothing for the others.
// Each consumer has its own bounded workers. A delivery that failed is tried
// again after a pause that doubles, with jitter; Later postpones without counting
// an attempt, Permanent gives up at once. What ran out of attempts or of time is
// a dead letter: the consumer is told, it is listed by Dead and tried again by
// Redeliver.
//
// States of a delivery: River's. Jobs of a process that was killed are taken over
// by another (or by its successor) a minute after their time-out. Runner.Run
// polls; NOTIFY only wakes it up when RunnerConfig.Listen is set.
//
// Owns: the tables river_*. Callers: every domain to add, through the Queue
// interface (Discard when a node delivers nothing); packages push and callback to
// consume. Safe for concurrent use.
package outbox
