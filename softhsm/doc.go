// Package softhsm makes, finds and destroys SoftHSM2 tokens: for tests, for
// benchmarks and for the development mode. Production opens its HSM by
// configuration and never comes here.
//
// A token lives in a folder (0700) with its own softhsm2.conf, so that no other
// SoftHSM2 of the machine is touched: tokens/, the random PINs in pin and so-pin
// (0600), and label, which is written last and marks the token as whole. PINs are
// set in process through PKCS#11; they never stand in an argument list or in the
// environment. scripts/ does the same by hand with softhsm2-util, and practises a
// whole ceremony; plans/ holds the plans of ceremonies that stand ready.
//
// SoftHSM2 keeps its state per loaded library, one configuration each. A process
// that needs several tokens at once gives each a copy of the library (Isolate).
//
// States: a folder holds no token, an interrupted one (Create sweeps it), or a
// whole one. Owns: the six names above, nothing else in the folder. Callers: hsm
// and its tests, development mode, benchmarks; imports hsm. A Token is not for
// concurrent change.
package softhsm
