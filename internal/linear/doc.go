// Package linear judges histories of concurrent verdicts, for tests: is there an
// order of all calls, each somewhere between its beginning and its end, in which
// every answer is the one that the rules give? If so the nodes behind them acted
// like one; if not, something was accepted twice, lost, or judged by an old state.
//
// The rules stand here a second time, written from the protocol and sharing no
// code with the domains: a registration with its counter, window and failed
// attempts; a token header with its nonce; an operation that waits for an offline
// OTP. Objects are independent, so each has a history of its own, which is what
// keeps the search short (package porcupine).
//
// An Answer that is Unknown (a time-out, a lost connection, a 5xx) may have
// happened at any time after its call, or never.
//
// States: a History is filled by any number of goroutines with Record, and then
// read by Check. It owns nothing. Callers: tests only.
package linear
