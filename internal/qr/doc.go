// Package qr draws QR codes: what a phone scans to begin a registration or to
// approve an operation without a network.
//
// It promises: the same text gives the same picture; the quiet zone of four
// modules that ISO/IEC 18004 demands is part of it; the mask is the one with the
// least penalty (section 7.8.3), where the encoder alone would always take the
// first. Error correction is M, a seventh of the code may be lost to glare or a
// cracked screen, as long as the code stays at most 85 modules wide; a longer
// text is for a screen at reading distance and gets L, because smaller modules
// cost more than the correction gives.
//
// The matrix comes from rsc.io/qr/coding; picture and choice are made here. It
// keeps no state and knows nothing of what the text means. The text is often a
// secret (an activation code): it is in no error. Callers: api adapters.
package qr
