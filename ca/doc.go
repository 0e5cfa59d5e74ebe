// Package ca is the certificate authority of the tenants: signers, the tenants'
// own CAs with keys in the HSM, and the certificates they issue.
//
// # Promises
//
// Nothing is signed without a record: the intent (serial, profile and its hash,
// key) is committed before the HSM is asked, and the certificate is stored with
// its audit event, in one statement, before it is answered. No serial is used
// twice, and the status of every serial ever intended can be looked up. No row is
// locked while the HSM works.
//
// A tenant has at most one ACTIVE signer, kept so by a unique index, and once it
// has one it is without only after a deletion or revocation: a new signer becomes
// ACTIVE, and its predecessor RETIRED, in the transaction that stores the new
// certificate. A creation that fails or crashes before leaves everything as it
// was. Requests under way finish on the signer they started with. Of two
// creations at once the higher generation wins; the other one learns so by
// ErrSuperseded.
//
// A revocation erases a signer's certificates from use and leaves tombstones
// (package revocation) in one transaction. A leaf that is being signed meanwhile
// is not handed out. Revoking a leaf revokes those that were renewed by means of
// it too, since whoever stole its key may have asked for them.
//
// # Together
//
// Intents of leaf certificates that come at the same time are recorded by one
// statement and one commit, and so are the certificates with their events (package
// internal/group: no timer, no wait for who comes alone). Each is decided on its
// own. What a batch leaves out, because a row is held or is not what it was, is
// tried by a statement of its own, which waits and whose answer counts; renewals
// always are.
//
// # States
//
// Signer: PENDING (invisible: key or certificate missing) -> ACTIVE -> RETIRED;
// ACTIVE or RETIRED -> REVOKED, or DELETED (invisible) while nothing was asked of
// it; PENDING -> FAILED (invisible). No generation is used again. The key of a
// FAILED or DELETED signer is destroyed after that state is committed; those for
// OCSP and CRLs of one that has ended, when nothing they signed counts any more.
// Certificate: REQUESTED -> ISSUED -> REVOKED; REQUESTED -> FAILED. A signer has a
// row for each certificate of its key; its id is the reference of the newest
// (CA-13).
//
// # Crashes
//
// Each piece of work holds a lease on its row, by the database's clock, and stops
// before that ends; the next step of each is conditional on the state it left, so
// a process that comes back too late changes nothing. Run, on every node, judges
// rows whose lease is over. A creation is undone and not finished: nobody waits
// for it any more, and a tenant must not find its signer rotated by a request that
// is long over. A renewal is queued again. A leaf becomes FAILED: its request is
// gone with the process.
//
// Judged rows that may be signed get a tombstone as well. No such certificate can
// have left, since it is answered after the commit only; but a commit that was
// acknowledged can be lost with a database server and its unsynchronised standby,
// and then a certificate is out whose row says REQUESTED. A tombstone too many
// costs one line of a CRL; it has no hash, since no certificate was stored.
//
// # The queue
//
// A REQUESTED row is the queue entry: what is asked for and whether it is being
// done can not come apart, as two tables could, and each attempt keeps its serial.
// Requests try at once and mostly succeed; Run takes what an outage left, by
// setting the owner where there is none, so that of N nodes one begins. A queue
// beside the rows (River, as for messages) would add a second state to keep in
// step, for a handful of entries.
//
// # Who may call
//
// The API adapters. The tenant is a parameter of every method, in the key of
// every row, and in the label of every HSM key; a signer of another tenant can
// not be told from one that does not exist. RenewAll, Run and Unrecorded are the
// operator's and see all tenants.
//
// Owns: tables ca_signer and ca_certificate; HSM keys of roles signer, ocsp and crl.
// Uses, but does not own, the issuer key. Starts no goroutine that outlives a call;
// safe for concurrent use.
//
// Source: seed 001 "Certificate Authority"; inventory rows CA-05..CA-13, machines
// SM-01 and SM-02.
package ca
