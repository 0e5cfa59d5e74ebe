// Package ca is the certificate authority of the tenants: signers, the tenants'
// own CAs with keys in the HSM, and the certificates they issue.
//
// # Promises
//
// Nothing is signed without a record: the intent (serial, profile and its hash,
// key) is committed before the HSM is asked, and the certificate is stored with
// its audit event, in one statement, before it is answered. When the database
// fails in between, the caller gets an error and the serial can still be looked
// up. No row is locked while the HSM works.
//
// A tenant has at most one ACTIVE signer, kept so by a unique index, and once it
// has one it never is without: a new signer becomes ACTIVE, and its predecessor
// RETIRED, in the transaction that stores the new certificate. A creation that
// fails or crashes before leaves everything as it was. Requests under way finish
// on the signer they started with, whose certificate stays valid for checking.
// Of two creations at once the higher generation wins; the other one learns so
// by ErrSuperseded.
//
// # States
//
// Signer: PENDING (invisible: key or certificate missing) -> ACTIVE -> RETIRED;
// PENDING -> FAILED (invisible; its generation is not used again). REVOKED comes
// from ACTIVE or RETIRED. Certificate: REQUESTED -> ISSUED | FAILED. A signer's
// id is the reference of its certificate as well (CA-13). A row that a crash
// left PENDING or REQUESTED stays so until a reconciler judges it.
//
// # Who may call
//
// The API adapters. The tenant is a parameter of every method, in the key of
// every row, and in the label of every HSM key; a signer of another tenant can
// not be told from one that does not exist.
//
// Owns: tables ca_signer and ca_certificate; HSM keys of the roles signer and ocsp. Uses, but
// does not own, the issuer key. Starts no goroutine; safe for concurrent use.
//
// Source: seed 001 "Certificate Authority"; inventory rows CA-05, CA-06, CA-07,
// CA-09, CA-13, machines SM-01 and SM-02.
package ca
