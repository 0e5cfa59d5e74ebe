// Package otp computes and checks one-time passwords: HOTP (RFC 4226), TOTP
// (RFC 6238) and OCRA (RFC 6287). The proximity check of PowerAuth operations is
// Proximity, a TOTP with SHA-256 and 8 digits.
//
// It is pure: the standard library and fault only, no clock (times are
// parameters), no randomness, no state. What makes a password usable once is
// with the caller: store the counter or the time step that a check returns and
// never accept it, or an earlier one, again.
//
// Checks compare in constant time and stop at the match: which value of the
// window matched is known to whoever made the password. A wrong one costs the
// whole window, and a window multiplies the chance to guess: keep it small, and
// count failures.
//
// Shapes: keys are raw bytes (RFC 4226 wants 16 at least, shorter ones are
// ErrKey), passwords decimal text with leading zeros. Suites are immutable and
// safe for concurrent use. Errors are Invalid sentinels of package fault.
//
// Callers: operation (proximity check), device (offline OTP), client.
package otp
