// Package ops serves what operators and orchestrators ask: /livez (the process
// runs), /readyz (it can do its work, and what is missing if not), /metrics.
//
// Readiness is a list of named checks, all asked at once, each with its own
// deadline; one that fails makes /readyz answer 503. The answer names what each
// check found, host names among it: keep the listener away from clients. gRPC's
// health service follows the same Readiness. Drain makes it not ready for good,
// so that a balancer turns away before the process stops.
//
// States: ready or not, and draining. Owns: nothing. Callers: cmd. Safe for
// concurrent use.
package ops
