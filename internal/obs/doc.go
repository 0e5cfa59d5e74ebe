// Package obs makes the logger and the metrics registry that cmd hands to every
// package: slog with attributes, one line per event, and one Prometheus registry
// per process (no global state, so that tests and several nodes in one process
// do not meet). Owns nothing; callers: cmd and tests.
package obs
