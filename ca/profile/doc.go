// Package profile reads certificate profiles and block lists from files.
//
// A file of profiles is strict YAML (internal/conf): every field is one of
// issuance.Profile, an unknown one refuses with its line. What is read is
// validated and compiled with the full linter, so that a profile which would
// break a rule stops the start and not the first phone. Profiles that are not in
// the file are the built-in ones; a file may replace these, but not turn one into
// another kind, and not OCSP_SIGNING, CRL_SIGNING, ROOT and ISSUER: the keys that
// answer for a CA get the built-in ones, and the certificates of the last two come
// from ceremonies.
// What a certificate was made from is pinned by Profile.Hash in its record.
//
// States: none. Owns: nothing. Callers: cmd/signet.
package profile
