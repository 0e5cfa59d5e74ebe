// Package ast serves the AST Services REST API (seed 001) to administrators and
// AST clients of a tenant.
//
// Callers bring a bearer token of the tenant's identity provider; the tenant in
// the path has to be the token's. One operation is for the holders of certificates
// (renewCertificate): they show theirs in the TLS handshake, so the listener has to
// ask for one (tls.RequestClientCert) and to leave judging it to us. A proxy that
// ends TLS hides it, and a header in its place would be believed of anybody.
//
// Errors are {message, code, subsystem}: code is the HTTP status as text,
// subsystem the number of the part that refused, from one table (errors.go). Lists
// are bare arrays with X-Total-Count.
//
// Served so far: the operations marked so in docs/coverage.md. Handlers parse,
// call package ca and map its answer; rules live there.
//
// States: none. Owns: nothing. Callers: cmd. Safe for concurrent use.
package ast
