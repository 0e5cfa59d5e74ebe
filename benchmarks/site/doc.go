// Package site makes an installation as an operator makes it, for benchmarks of
// the whole program: a private PostgreSQL cluster that syncs every commit, a
// SoftHSM token, a ceremony, a bootstrap, TLS on loopback, and any number of
// `signet serve`.
//
// A Site owns the folder it is given, the cluster and the processes it has started;
// Close ends them all, the folder is the caller's. Used by one goroutine. Callers:
// the programs below benchmarks/.
package site
