// Package issuance is the certificate engine: profile + request -> draft ->
// signature -> verified certificate. The authority (package ca) and the key
// ceremony share it, so that a rehearsed root and a device certificate come
// from the same lines.
//
// Profiles are data (Profile). Compile checks one, has it linted and encodes what
// never changes; Hash pins its meaning, so that two nodes which disagree about a
// profile can see it (one public incident issued 645 certificates whose content
// depended on the node). A request (ParseRequest) is judged once: size, syntax,
// key strength, then proof of possession. Nothing is copied from it but the key:
// subject and alternative names come from the caller, who authenticated somebody,
// and what a request asks for beyond its profile is refused.
//
// Issuing has two steps on purpose. Prepare builds the exact to-be-signed bytes
// without the issuer's key and shows them to the template's Linter, which judges
// the whole certificate under a throw-away key or, for the leaves that a setting
// leaves out, what differs from one that was; only after its yes there is a Draft. The
// caller records its intent (serial, profile hash) and then calls Draft.Sign,
// which works once, signs just those bytes, verifies the signature with the
// issuer's public key (of leaves as often as Checks says) and compares the result with the draft before a byte
// leaves. There is no other way to a Draft, and no other way to sign.
//
// Rules of the certificates: serials are 127 random bits with a non-zero first
// byte; notAfter is inclusive, so a validity of one hour ends at 59:59; both
// ends lie within the issuer's; key identifiers are the first 160 bits of
// SHA-256 over the public key (RFC 7093 section 2 method 1); ECDSA keys sign
// with the hash of their size, RSA with PKCS #1 v1.5 and SHA-256 (Scheme).
//
// Keys that are refused whoever has them: RSA below 2048 bits, with small factors,
// close primes or the ROCA pattern; points off their curve or of small order; what
// stands in the installation's BlockList.
//
// Pure: no I/O, no clock, no SQL, no HSM; the private key comes as a
// crypto.Signer. States: a Draft is unsigned or used. Owns: nothing. Templates,
// Issuers and Requests are immutable and safe for concurrent use.
//
// Sources: RFC 5280, RFC 2986, RFC 5758, RFC 8410; seed 001 "Certificate
// Authority"; ROCA: Nemec et al., CCS 2017.
package issuance
