// Package floor is the bottom line of the benchmarks of package hsm: the same
// PKCS#11 calls in a loop of C, without Go between two of them. What hsm reaches
// is told as a share of it. Only tests and benchmarks use it.
//
// States: none. Owns: nothing. Callers: tests of package hsm.
package floor
