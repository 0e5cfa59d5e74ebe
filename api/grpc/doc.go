// Package grpc serves signet.v1 (api/signetv1) over the same domains as the REST
// dialects, and health and reflection beside it. REST never loops through it.
//
// Every call takes one path: id, recover, metrics, deadline, authenticate,
// authorise, check texts, handle. Callers bring a bearer token or Basic credentials in the
// metadata key authorization; the tenant is theirs and no message can name
// another. A method without a row in the table of privileges keeps the server
// from starting. Errors carry ErrorInfo with a stable reason (domain "signet") and,
// for broken rules, BadRequest; one table has them all (errors.go).
//
// What REST serves to application tiers and administrators has a method here; a
// test holds the two together (coverage_test.go).
//
// A call without a deadline gets one, a far one is brought nearer; work that can
// be resumed stops in time to tell how far it came (portion.go). A stream has bounds
// of its own (conversation.go), and an item in it, or in a batch (many.go), an
// outcome of its own. What a credential has at work is bounded (access.Limiter).
// Health follows readiness: it says SERVING only while every
// check is good.
//
// A certificate is renewed for whoever holds the old one's key. That is shown by the
// TLS client certificate, if the listener's ClientCAs have the installation's
// root, or by a signature that the caller passes on (renew.go). What the old
// certificate is worth is for package ca to judge, each time anew.
//
// What concerns all tenants (RenewAllSigners) needs an administrator of
// Config.Operator: the tenant of a caller is the bound of everything else.
//
// States: serving, draining. Owns: nothing. Callers: cmd. Safe for concurrent use.
package grpc
