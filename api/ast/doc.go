// Package ast serves the AST Services REST API (seed 001) to administrators and
// AST clients of a tenant.
//
// Callers bring a bearer token of the tenant's identity provider; the tenant in
// the path has to be the token's. Errors are {message, code, subsystem}: code is
// the HTTP status as text, subsystem the number of the part that refused, from
// one table (errors.go). Lists are bare arrays with X-Total-Count.
//
// Served so far: the operations marked so in docs/coverage.md. Handlers parse,
// call package ca and map its answer; rules live there.
//
// States: none. Owns: nothing. Callers: cmd. Safe for concurrent use.
package ast
