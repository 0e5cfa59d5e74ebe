// Package registration keeps the devices of a PowerAuth application: how one is
// registered, exchanges keys, is committed, and has its signatures verified.
//
// States (SM-05):
//
//	CREATED ── key exchange ──> PENDING_COMMIT ── Commit ──> ACTIVE <──> BLOCKED
//	   │   └─ key exchange with a verified ON_KEY_EXCHANGE OTP ─────^
//	   └── expiry, OTP attempts used up, bad device key: REMOVED, from any state
//
// An application tier blocks, unblocks and removes by Change; what is outside of
// its matrix is refused, also what was done already. CREATED and PENDING_COMMIT
// expire; every read checks that and writes REMOVED, and Run sweeps up what
// nobody reads. At most one registration of a user and application is in progress, by a unique
// index and not by a check.
//
// Promises. Every change compares and bumps the row's revision and carries its
// audit event in the same statement, and a change of state its outbox event in
// the same transaction, the automatic block included: there is no transaction open and no row
// locked while a key is computed or the HSM asked; who loses the race reads again
// and decides again. A verdict is answered only after its statement is durable.
// A database or HSM that does not answer is fault.ErrUnavailable, never a verdict
// (the reference answers REMOVED then, and devices wipe themselves). When the
// connection dies while the statement is under way its outcome is unknown: the
// device signs again, with its next counter, which the look-ahead finds.
//
// Verdicts. What a verification reads of an ACTIVE registration is kept in memory
// and never told to other nodes: a verdict made from an old row loses its swap, is
// not answered, and is made again from the database. Verdicts that come while a
// commit is under way share the next one (internal/group), each with its own swap,
// answer and event, the events in one row of the audit log (audit.Pack). No such
// statement waits for a row: one that another transaction holds is left out, and
// waited for by its own callers only, once they have read that it did not change.
//
// Verify, and VerifyOffline for what a person typed, are one judgement. The counter only moves up. State is checked before the application
// key: a wrong key can not touch a registration that is not ACTIVE. Wrong
// signatures count towards max_failed_attempts, whatever the factors, and the
// count of wrong signatures in a row that reaches it blocks, exactly there, under
// any concurrency. A right signature clears the count, with one exception: by
// possession alone it takes back only what possession alone had failed
// (failed_possession), because the thief of a phone has the possession factor and
// must not win fresh guesses of the PIN with it. An offline signature is one
// attempt whatever the number of candidates. The reference never counts
// possession alone, which leaves its decimal form open to guessing.
//
// Key exchange. Both layers are opened with the application's master key in the
// HSM. KEY_MASTER_SECRET is computed once, here, and kept sealed, so that no
// verification pays for an ECDH. An OTP that nobody asked for is refused, and
// only a verified one makes a registration ACTIVE without a commit. A device key
// that is no point of the curve removes the registration, as in the reference:
// whoever sent it knew the code, and a code is spent by its first use; the audit
// event says why.
//
// Device's own endpoints. They name an application key, which leads to the tenant
// (a status request names only the registration, which is unique over all). A
// message of 3.2 or later is opened once: after its MAC was right its nonce is
// kept for as long as its time is accepted, on all nodes. From 3.3 on messages
// are for temporary keys of five minutes, sealed in the database so that every
// node has them; the application's are vouched for by the master key in the HSM,
// a registration's by its server key. Status never says REMOVED because of an
// outage: devices would wipe themselves.
//
// Unknown, another application's and another tenant's registration are one
// answer. A REMOVED registration stays in the table (a device may still ask for
// its status) but nothing else shows it; Commit answers ErrChange.
//
// Owns: tables registration, temporary_key and used_nonce. Callers: api,
// operation, token. Safe for concurrent use by any number of processes on one
// database. Source: seed 004 (PA-REG-01 to 09, PA-AUTH-01, the signature of
// PA-OP-05), PowerAuth 3.0 to 3.3.
package registration
