// Command issue measures certificates: in process with a database that syncs every
// commit, beside the raw signatures of the module and crypto11 with
// x509.CreateCertificate; and over HTTPS on loopback, `signet serve` beside step-ca
// on the same kind of token. It prints Go's benchmark format for benchmarks/run,
// which builds the programs it starts (signet, stepca, rawc) and starts it.
//
// "sampled" has one certificate in 100 linted in full and one signature in 100
// verified, compiled checks for the others; "every" all of them. The clients of both
// HTTPS servers are the same code, in this process: keep-alive, a request made in
// advance, the answer read and its status checked.
//
// It owns the clusters, tokens and servers that it makes and ends. Exit code 1 when
// a measurement failed.
package main
