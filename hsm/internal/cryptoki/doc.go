// Package cryptoki makes the few PKCS#11 calls of the hot path without an
// allocation: each in one crossing from Go to C, on memory that a Job owns.
// Everything else goes through github.com/miekg/pkcs11, whose signatures cost two
// crossings more, four allocations, and on a networked HSM a second round trip.
//
// A Module is a second handle on a library that miekg/pkcs11 has loaded from the
// same path: the dynamic loader knows a file once, so both speak to one library
// with one state. It initialises nothing and finalises nothing.
//
// A Job is the memory of one call at a time: parameters, input and output in C.
// No pointer into Go's heap is ever given to a module, so a call that does not
// return keeps nothing of Go's alive, and its Job is leaked on purpose.
//
// States: none. Owns: the memory of its Jobs. Callers: package hsm only.
package cryptoki
