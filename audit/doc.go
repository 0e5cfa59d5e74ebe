// Package audit keeps what happened: one row for every verdict and every
// change, written in the transaction (or the very statement) that it records.
//
// Promises: an event is stored exactly when the change it tells of is; it is
// never updated or deleted by this package. It has no secrets: not the
// APPLICATION_SECRET, no counter, no key; signed data stands in it only as a
// SHA-256 hash. Detail is small and made by the domain that records, never
// copied from a request as a whole.
//
// Three ways to append, all by one encoding of the row: RecordTx inside an open
// transaction, Queue onto a batch, and After+Args, which let a domain hang the
// event onto its own INSERT or UPDATE as a common table expression. The last is
// the cheapest (one round trip, one statement, no open transaction) and writes
// nothing when the change wrote nothing.
//
// The id of an event is a UUIDv7 of its time, so (tenant, id) is the order of
// time and no second index on it is paid for on the hot path.
//
// States: none, append-only. Owns: table audit_event. Callers: every domain
// (layer 5 and up) to append; the audit endpoint to List. Safe for concurrent
// use. Source: seed 004 "Audit" (PA-AUD-01); a hash chain per tenant with
// checkpoints signed in the HSM comes with its own tables, not columns here.
package audit
