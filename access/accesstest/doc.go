// Package accesstest is an identity provider for tests: one ES256 key that lives
// as long as the process, its JWKS, and tokens with the claims that access reads.
// It shows what a production realm has to issue.
//
// States: none. Owns: nothing. Callers: tests only. Safe for concurrent use.
package accesstest
