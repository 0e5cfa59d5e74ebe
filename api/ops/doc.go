// Package ops serves what operators and orchestrators ask: /livez (the process
// runs), /readyz (it can do its work, and which check says no if not), /metrics.
//
// Readiness is a list of named checks, all asked at once, each with its own
// deadline; one that fails makes /readyz answer 503. The answer names the checks
// that failed; why stands in the log, once for each change, because causes name
// hosts and files. gRPC's health service follows the same Readiness. Drain makes it not ready for good,
// so that a balancer turns away before the process stops.
//
// States: ready or not, and draining. Owns: nothing. Callers: cmd. Safe for
// concurrent use.
package ops
