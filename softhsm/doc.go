// Package softhsm makes, finds and destroys SoftHSM2 tokens: for tests, for
// benchmarks and for the development mode.
package softhsm
