// Package rest is the frame that every REST dialect stands in: a table of routes
// on the standard mux, and one path that each request takes.
//
//	id -> recover -> metrics -> limit -> authenticate -> authorise -> decode -> handle
//
// A Route can not be declared without its inventory id and the privileges that
// may use it: New refuses. A {tenant} or {tenantId} in a pattern must name the
// caller's own tenant; a foreign and an unknown tenant get the same answer.
// Handlers parse, call the domain and map the result; they return errors and
// never write. What a dialect adds is small: how callers authenticate, and how an
// error looks (Dialect).
//
// Bodies are JSON objects, read strictly: unknown, repeated and mis-cased names,
// invalid UTF-8, trailing data, deep nesting and long arrays are refused, and a
// null stands only where the contract has one.
//
// States: none. Owns: nothing. Callers: the dialects in api/. An API is safe for
// concurrent use.
package rest
