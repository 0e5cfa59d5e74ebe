// Package lint says whether certificates, CRLs and OCSP responses keep the rules,
// before anybody relies on them.
//
// Two sets of rules apply. zlint's, from a registry that is pinned here: the
// sources of the IETF and the community, without those written for the public
// web; each rule left out stands in Excluded with its reason. And our own
// ("signet_..."), which know what the public rules can not: the serials, key
// identifiers and inclusive notAfter of this engine, the issuer's exact name, and
// that a certificate is what its profile says and nothing more.
//
// Linter is what the engine asks (issuance.Linter). It judges a profile when it
// is compiled, by certificates of every kind of key with the least and the most
// content, and then every draft before it is signed: as a whole certificate under
// a throw-away key, so that no certificate exists that was not linted, not even a
// bad one. CA certificates are always judged in full. For leaf certificates
// Config.Every chooses: 1 (the default) judges each in full; N judges one in N in
// full and the others by checks compiled from a certificate that passed: all bytes
// must be equal but the serial, dates, subject, key and key identifier, and these
// are checked for themselves (mould.go).
//
// Severities: what zlint calls notice is no finding. Everything else is, and a
// draft with one finding is not signed.
//
// Pure functions otherwise; a Linter keeps compiled checks in memory, at most
// maxMoulds. Throw-away keys are made once per process and never stored. Callers:
// ca, ca/profile, ca/revocation, ceremony. Owns: nothing. Safe for concurrent use.
//
// Sources: RFC 5280, 6960, 7093, 8410; zlint v3.6.8.
package lint
