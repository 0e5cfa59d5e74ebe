// Package softhsmtest gives each test a SoftHSM2 token of its own, in memory where
// there is a tmpfs, with a private copy of the library: tests in parallel never
// meet. A machine without SoftHSM2 fails the test and names the package to
// install; nothing is skipped.
//
// It keeps no state: what it makes ends with the test that asked. Test code only.
package softhsmtest
