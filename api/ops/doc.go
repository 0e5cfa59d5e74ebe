// Package ops tells machines how a node is: /livez (the process answers),
// /readyz (it can do its work; each check by name, and what is missing) and
// /metrics (Prometheus).
//
// Checks run side by side under one deadline. What a check says is written out,
// so a check must not put a secret or an address with a password in its error.
//
// States: none. Owns: nothing. Callers: cmd. Safe for concurrent use.
package ops
