// Package hsmtest holds the contract that every PKCS#11 module must keep before
// signet trusts it with keys. Run goes through any token that package hsm can
// open; Caps names what the module is known to lack, so that a missing mechanism
// is a statement in the test that calls Run and not a silent skip.
//
// It owns nothing and keeps no state; tests of modules call it.
package hsmtest
