// Package hsm is the one door to PKCS#11 modules: it opens a token, makes and
// finds keys by role, and uses them. Keys never leave the module.
//
// It has two halves. Token is the front that domains use: references, roles,
// encodings, counts. Behind it stands an Engine (engine.go is the contract): named
// operations on plain data, so that the module may be in this process (OpenEngine)
// or in another. Open makes both.
//
// # Promises
//
// A process has one owner per module: the first Open initialises the library,
// the last Close finalises it, and Tokens at one slot share one login. The PIN is
// tried once per login; a refused PIN is final (ErrPIN), because a loop would
// lock the partition.
//
// A call waits for a lane (a logged-in session) in the order of arrival, no
// longer than its context, and its caller leaves when the context ends, whatever
// the module does. The call itself can not be ended from outside; one that never
// ends costs an instance, whose place a copy of the module takes. Isolation from a
// crashing module is the job of a process around it, not of this package.
//
// A session that returned an error is closed, whatever the error. Lost sessions
// and lost logins are healed once, by one login for all who fail together, and
// the call is tried once more; only calls that may be repeated without harm are
// (sign, MAC, seal, open, agree, random), never the creation of a key. When that
// does not help the module is initialised anew, in the background and with pauses
// that grow, while other instances serve (ladder.go, instance.go, docs/hsm.md).
// What can not be healed wraps fault.ErrUnavailable: an outage is never a verdict.
//
// Signatures, MACs and sealing make one crossing to C and no allocation.
//
// # Keys
//
// A key is named by a Ref; its CKA_LABEL is "signet/1/<tenant>/<role>/<name>/
// <generation>", its CKA_ID 16 bytes of the caller's choice (the id of the row
// that records the intent to make it). Objects with other labels are ignored. A
// label or id with two owners is ErrAmbiguous: nothing is guessed.
//
// Each role has one template (template.go) that states every usage bit of both
// halves. Generate reads all of it back, with LOCAL, ALWAYS_SENSITIVE and
// NEVER_EXTRACTABLE, uses the key once, and destroys what is not as demanded; a
// key found on the token whose usage bits differ from its role is ErrTemplate.
//
// # Ceremonies
//
// Officer has what a key ceremony may do and a service may not: keys that have a
// backup, PINs, and the attributes of every object. It is to be had only of a Token
// whose module is in this process. No key on a token is ever extractable for its
// backup: GenerateBacked wraps a session object and keeps what was unwrapped.
// Witness tells a transcript of every call that changes a token.
//
// # States
//
// A Token is open or closed. Within it: instances of the module, each up, down or
// gone; login epochs (object handles live in one), and waves of sessions (see
// slot). Owns: the modules and slots of this process, one goroutine per lane, one
// that watches, one per repair; no tables. Callers: everything from layer 4 up; the package imports
// fault and internal/secret. All exported types are safe for concurrent use.
//
// Sources: PKCS#11 v2.40 base and mechanisms, v3.0 for Ed25519; issue threads of
// crypto11, pkcs11key and SoftHSMv2 for what goes wrong.
package hsm
