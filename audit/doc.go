// Package audit keeps what happened: one event for every verdict and every
// change, written in the transaction (or the very statement) that it records.
//
// Promises: an event is stored exactly when the change it tells of is; it is
// never updated or deleted by this package. It has no secrets: not the
// APPLICATION_SECRET, no counter, no key; signed data stands in it only as a
// SHA-256 hash. Detail is small and made by the domain that records, never
// copied from a request as a whole.
//
// Five ways to append, all by one encoding of the row: RecordTx inside an open
// transaction, Queue onto a batch, After+Args, which let a domain hang the event
// onto its own INSERT or UPDATE as a common table expression, AfterMany+Many,
// the same for many changes in one statement, and AfterPack+Pack, for so many that
// they share a row (docs/design/0015). The last three are the cheapest (one
// round trip, one statement, no open transaction) and write nothing when the
// change wrote nothing. Readers need not know which was used.
//
// The id of an event is a UUIDv7 of its time, so (tenant, id) is the order of
// time and no second index on it is paid for on the hot path.
//
// Committed events are chained by hashes, per tenant, by a Sealer that runs
// beside the hot path, and the chain's state is signed in the HSM now and then; a
// Verifier finds every later edit, deletion, reordering, insertion and cut and
// names the first bad row (docs/design/0005). Events wait about a second to be
// sealed and checkpoints about a minute; what that leaves open is said there.
// Query answers the audit endpoint of the PowerAuth API, History tells of one
// registration.
//
// States of an event: stored, sealed, signed; nothing leads back. Owns: tables
// audit_event, audit_pack, audit_chain, audit_checkpoint (append-only, docs/sql/roles.sql)
// and audit_head; HSM keys of role "audit". Callers: every domain (layer 5 and
// up) to append; the audit endpoint; cmd, which runs Sealer.Run and Verify. A Log
// and a Verifier are safe for concurrent use, a Sealer belongs to one goroutine.
// Source: seed 004 "Audit" (PA-AUD-01).
package audit
