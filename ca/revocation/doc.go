// Package revocation tells the world which certificates are no longer good: it
// keeps a tombstone of each revoked one, and makes and serves CRLs and OCSP
// responses from them. The certificate authority records (RecordTx), a Publisher
// on every node publishes, package api/pki serves.
//
// # Promises
//
// From the commit of a revocation on no OCSP response calls the certificate
// good, on any node: readers look for the tombstone too. Its CRL lists it a poll
// (1 s) and the time of one signature later. What a cache on the way keeps is its
// own affair (pki.Config.MaxAge).
//
// A revocation costs the CRL it belongs to and no other: an issuer's serials are
// divided into a fixed number of shards, each with a CRL of its own. Numbers of a
// CRL only rise, over all nodes; each is taken before anything is signed under
// it, and the CRL is stored, in one statement with its number, before it is
// served. Attempts that fail leave gaps. Every CRL and response is read back and
// linted before anybody sees it; what fails that is ErrCheck and is not published.
//
// An entry stays on the CRL until it was on one that was made after the
// certificate's end. The tombstone stays for ever.
//
// # Who signs
//
// A CA signs its CRLs with its own key, which every verifier understands. With
// Config.OwnCRLKey another key in the HSM (role crl) does, under a certificate in
// the CA's own name; who of the verifiers finds it is told in docs/ca.md. With one shard the CRL is complete and plain, and every
// verifier understands it. With more, each CRL names its address as its scope in
// a critical extension, which must be that in the certificates: OpenSSL and Java
// understand this, NSS refuses such a CRL, and GnuTLS reads over the scope and has
// to be given the right CRL.
//
// OCSP is always delegated: each CA has a second key in the HSM (role ocsp) with a
// certificate of days (id-pkix-ocsp-nocheck). These certificates are made when
// first needed and renewed after two thirds of their life, by one node, while they
// are in use; at once when the token has another key than the certificate's.
//
// # OCSP policy (RFC 6960 in the profile of RFC 5019)
//
// Responses are signed when they are first asked for, stored, and signed anew
// after half their validity for as long as somebody asked within one; a
// revocation has a stored one signed anew at once. That goes on beside the CRLs,
// in batches, and delays none of them. Certificates are named by
// SHA-1 or SHA-256 hashes, and the answer repeats the kind; other hashes name
// nothing. A request for more than one certificate is malformed. Nonces are
// ignored, since responses are made ahead (RFC 6960 section 2.5, RFC 9654);
// other extensions too, unless critical, which is malformed. Signatures on
// requests are not looked at.
//
// ErrNoIssuer and ErrUnknownCertificate, the answer "unauthorized", are for every
// serial without an issued certificate that is still valid, and cost the HSM
// nothing. A guessed serial costs two look-ups by a unique index: here, and then at
// the authority, which alone knows what was issued. One statement for both would
// read its table from here, and a stored response, which most answers are, takes
// one as it is. Signatures under way at a time are bounded (Config.Signers), one for
// all who ask for the same; who waits longer than Config.Wait gets ErrBusy, "try
// later". So a flood of first requests leaves the HSM to issuance.
//
// # States
//
// A tombstone: PENDING (on no CRL) -> LISTED -> DROPPED. A CRL: unpublished ->
// published, again and again -> parked when its CA may sign no more (revoked,
// expired); its last one is served to its nextUpdate. A claim on a CRL is a
// number and a time (Config.Lease), with which a node that died is overtaken; no
// row is locked while the HSM works. A delegate's certificate: claimed -> issued.
//
// # Outages
//
// Without the HSM what is published goes on being served until its nextUpdate:
// half of CRLValidity and OCSPValidity, at the least, to repair it. After that a
// CRL is ErrNotPublished and an OCSP request ErrUnavailable: nothing stale is ever
// given out. Revocations recorded meanwhile are published when the HSM is back;
// OCSP answers "try later" for them at once. Without the database CRLs that this
// node has served are served on from memory until their nextUpdate; OCSP is "try
// later", since nobody can look for the tombstone.
//
// Owns: tables ca_revocation, ca_crl, ca_ocsp, ca_ocsp_delegate, ca_crl_delegate (all but
// the first public data, found by the issuer's key identifier and not by tenant). Callers:
// ca (RecordTx, in the revoking transaction), api/pki, cmd. Authority is
// implemented by ca.Issuers. Safe for concurrent use, except that Run must not
// run twice at a time.
//
// Sources: RFC 5280, RFC 6960, RFC 5019, RFC 9654.
package revocation
