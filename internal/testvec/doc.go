// Package testvec opens the outside test vectors, which are not part of the
// repository: the folder named by SIGNET_VECTORS, else ../shared/vectors beside
// the checkout. Where it is missing, a test skips with a line that says so,
// unless CI is set: there it fails. Callers: tests only.
package testvec
