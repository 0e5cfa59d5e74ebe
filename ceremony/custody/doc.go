// Package custody splits secrets of a ceremony among people, and holds the keys by
// which those people sign and receive their shares.
//
// It promises that a sealed secret (a PIN, the key that wraps a backup) can be
// opened by a threshold of its custodians and by fewer not at all; that each share
// can be verified alone, by its custodian, on the day it is made; and that a wrong,
// foreign or missing share is refused with the name of its custodian.
//
// How. A random scalar is shared by Feldman's verifiable secret sharing over
// ristretto255 (cloudflare/circl), and the secret is encrypted with AES-256-GCM
// under a key derived from the scalar by HKDF. It is never the shared value itself: Feldman's
// commitments are enough to try guesses at a value, and a PIN can be guessed. Each
// share is encrypted (age, X25519) to its custodian, so that the whole is one file
// that holds no secret in clear and may be copied and printed. The header is
// authenticated with the secret.
//
// A person has one key file (Key): an Ed25519 key that signs transcripts and sign-offs, and an
// age identity that opens shares; under a passphrase when it is wanted. The plan
// names the public halves (Person).
//
// States: none. Owns: the formats of sealed secrets and key files. Callers:
// ceremony, cmd/ceremony. Values are not for concurrent change.
//
// Sources: Feldman, FOCS 1987; RFC 5869; RFC 8032; the age file format
// (C2SP age.md).
package custody
