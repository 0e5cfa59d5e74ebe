// Package softhsmtest gives each test a SoftHSM2 token of its own.
package softhsmtest
