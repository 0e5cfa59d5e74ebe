// Package signature is the kernel of PowerAuth 3.x: everything of the protocol
// that is computation, for the server and for the device.
//
// It promises that the same bytes come out here as in the reference
// implementation and the mobile SDK; the vectors of both run in the tests, and
// parsers were compared with Java on random input. It is pure: the standard
// library and fault only, no I/O, no clock, no randomness of its own (random
// bytes are parameters), no goroutines. Functions that need a private key take
// the result of the key agreement instead, so that the key may live in an HSM.
//
// # Verifying a request
//
//	h, err := signature.ParseHeader(header)       // the POWER_AUTH_* errors
//	keys := signature.DeriveKeys(master)          // once per activation, cached
//	m, ok := keys.Verify(&h, signature.Request{Method: "POST", URIID: id, Body: body, Secret: secret},
//		counter, signature.DefaultLookAhead)
//	// ok: store m.Next by compare-and-swap on counter before trusting it
//
// A right signature stays right for ever; what makes it usable once is that the
// caller moves the counter. Counting wrong attempts and blocking are the
// caller's as well. ParseHeader and Verify do not allocate.
//
// # Activating
//
// NewActivationCode and ActivationQR make what the device scans. The device's
// two nested requests are opened with ParseEncryptedRequest and OpenRequest (both
// in ApplicationScope, InfoApplication around InfoLayer2) and answered with
// Responder.Seal. MasterSecret folds the agreement of the two long-term keys, and
// Fingerprint is the number people compare.
//
// # Encryption
//
// An envelope serves one request and one response; the Responder and Requester
// enforce it and wipe their keys. The MAC is checked before anything is
// decrypted. Which fields a message must and must not have is a matter of its
// version and checked before the key agreement is worth its price.
//
// # Secrets and time
//
// Keys, Responder and Requester print "[redacted]". Signatures, digests and MACs
// are compared in constant time, all components of a signature at once. What may
// be seen from the outside is written at Keys.Verify. The base string ends with
// the application secret: never log or store it.
//
// # Shapes
//
// Binary values are fixed arrays where the protocol fixes their size. Times are
// Unix milliseconds. The application secret is always its Base64 text, as bytes,
// because that is what enters hashes. UUIDs are texts, kept as they were sent.
// All exported values but Responder and Requester (one use) are immutable or
// plain data; Keys is safe for concurrent use. Errors are sentinels of package
// fault, kind Invalid for what a peer sent, Internal for what our code mixed up.
//
// Sources: PowerAuth protocol documentation and the behaviour of powerauth-crypto
// 1.10 where the two differ (each place says so); RFC 2104, RFC 4648, ANSI X9.63,
// SEC 1. Callers: registration, token, operation, client/powerauth.
package signature
