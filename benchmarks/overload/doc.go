// Command overload asks an installation for three times what it can do. It starts
// `signet serve`, finds with `signet load` how many verifications a second it answers
// at most, and then has calls come due at three times that rate, from three times the
// callers: what it answers must not become less. Both take turns, round by round, over
// gRPC. Then the same with a service that lets in no more calls than the peak had, and
// has to refuse the rest: a refusal is not free, and the caller shares the machine. It
// prints Go's benchmark format for benchmarks/run, which builds signet and starts it.
//
// It owns the installation that it makes and removes. Exit code 1 when a
// measurement failed, or a verdict was wrong.
package main
