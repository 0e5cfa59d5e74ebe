// Command footprint measures what an installation costs before anybody calls it: the
// time from the start of `signet serve` until it serves, and its resident memory
// then. It prints Go's benchmark format for benchmarks/run, which builds signet and
// starts it.
//
// It owns the installation that it makes and removes. Exit code 1 when a
// measurement failed.
package main
