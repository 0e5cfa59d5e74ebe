// Command overload asks an installation for three times what it can do. It starts
// `signet serve`, finds with `signet load` how many verifications a second it answers
// at most, and then has calls come due at three times that rate, from more callers than
// the service lets in at once: what it can not serve it has to refuse, and what it
// answers must not become less. Both take turns, round by round, over gRPC. It prints
// Go's benchmark format for benchmarks/run, which builds signet and starts it.
//
// It owns the installation that it makes and removes. Exit code 1 when a
// measurement failed, or a verdict was wrong.
package main
