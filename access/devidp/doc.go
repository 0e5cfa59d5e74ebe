// Package devidp is an identity provider for development and tests: one ES256
// key that lives as long as the process, its JWKS, and tokens with the claims
// that access reads. It shows what a production realm has to issue.
//
// States: none. Owns: nothing. Callers: `signet dev` and tests; a production
// configuration can not name it. Safe for concurrent use.
package devidp
