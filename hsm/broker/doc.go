// Package broker keeps PKCS#11 modules out of the service: they run in supervised
// child processes (package worker) that the service talks to over socketpairs
// (package wire). Broker is an hsm.Engine, so nothing above it knows.
//
// # Promises
//
// A module that crashes takes its worker and nothing else; the worker is replaced
// at once, after repeated failures with a growing pause. One that hangs is killed
// when a call has taken longer than Config.HSM.Hang. What was in flight and may be
// repeated (hsm.Op.Repeatable) is repeated on another worker within the caller's
// time; the rest is answered fault.ErrUnavailable, for its outcome is not known.
// A request that has outlived three workers is given up: it may be what kills them.
//
// A worker that answers with an outage is passed over while another is well, and
// replaced when it does not recover. One that has grown above
// Config.MemoryLimit is replaced first and ended when it has answered all.
//
// The PIN is tried by one worker at a time, the first one alone, and a refusal is
// final for all: however many workers there are, a wrong PIN is tried once.
//
// Workers that use keys can not make or destroy any. A broker whose Role allows it
// starts another worker for that when it is needed and ends it after a minute
// without work.
//
// A caller waits for no lock that is held across a system call that can block, and
// never longer than its context.
//
// # What a worker that was taken over can do
//
// It has the module, its login and its keys, as any such process has; it can
// answer wrongly, which signatures verified by their callers show, and it can end.
// Its answers are parsed strictly and bounded in number and size; its output is
// bounded, escaped and logged as its own. It can not reach the database, the
// service's memory or its sockets, start programs, or, unless it was granted,
// use the network; with a user of its own it can read no file of the service.
//
// # States
//
// A worker is starting, ready, draining (takes no new request) or ended; a Broker
// is open or closed. Owns: the worker processes, and for each of them a goroutine
// that supervises, one that reads answers and one that reads its output; one
// watches all; all end with Close. Callers: cmd/signet. Safe for concurrent use.
package broker
