// Package measure runs one operation from many callers for a while and writes
// what it saw as a line of Go's benchmark format, so that programs of ours and
// `go test -bench` are read by the same parser (benchmarks/run).
//
// It promises that the loop itself allocates nothing and shares nothing between
// callers but a flag: latencies go into a histogram per caller (buckets of 1.6 %).
// The whole CPU time of the process is counted, garbage collection included, and
// that of a server beside it when Load.CPU tells it.
//
// It keeps no state and owns nothing. Callers: the programs below benchmarks/.
package measure
