package hsm

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
)

// Engine does the work of one token (or of several that hold the same keys) by
// named operations. A Token is the front that domains use; it checks roles and
// inputs, encodes, counts, and hands everything else to one Engine. OpenEngine
// makes the one that has the PKCS#11 module in this process; an Engine may as
// well speak to another process that holds one. This is the contract of both.
//
// Data. Arguments and results are plain data: no handle, session or pointer into
// a module crosses. A key is named by Key, which is the same in every process;
// the public key of a KeyInfo travels as SubjectPublicKeyInfo, errors as Failure.
//
// Buffers. dst is the caller's: the result is appended to it, and with enough
// capacity nothing is allocated. dst and the inputs may not overlap. An engine
// keeps neither after it returned, even when the call in the module goes on.
//
// Contexts. Every call ends when its context does, at the latest; the error then
// wraps context.Cause and fault.ErrUnavailable. What the module is doing at that
// moment may still happen.
//
// Repeats. Op.Repeatable says which operations an engine, or who stands between,
// may do again after an error that tells nothing (a lost session, a dead
// process). The others are done at most once: Generate and Destroy answer such an
// error to the caller, who knows what was intended.
//
// Healing is the engine's own affair. An error that reaches the caller was not
// healed; its class is that of FailureOf.
//
// All methods are safe for concurrent use. After Close they return ErrClosed.
type Engine interface {
	// Sign appends the signature: r||s for ECDSA, else as the mechanism gives it.
	// in is the digest, for EdDSA the message.
	Sign(ctx context.Context, k Key, m Mechanism, dst, in []byte) ([]byte, error)
	// MAC appends the 32 bytes of HMAC-SHA256.
	MAC(ctx context.Context, k Key, dst, msg []byte) ([]byte, error)
	// Seal appends nonce (12) || AES-256-GCM ciphertext || tag (16). aad is not empty.
	Seal(ctx context.Context, k Key, dst, plaintext, aad []byte) ([]byte, error)
	// Unseal is the inverse. ErrTag is only said when the key has proved to work.
	Unseal(ctx context.Context, k Key, dst, sealed, aad []byte) ([]byte, error)
	// Agree appends the 32-byte x-coordinate of the shared point. point is an
	// uncompressed P-256 point of 65 bytes, on the curve.
	Agree(ctx context.Context, k Key, dst, point []byte) ([]byte, error)
	// Random fills p from the module's generator.
	Random(ctx context.Context, p []byte) error

	// Find returns one usable key: ErrKeyNotFound, ErrAmbiguous, ErrTemplate.
	Find(ctx context.Context, ref Ref) (KeyInfo, error)
	// Keys enumerates the token anew, in no order; linear in its objects.
	Keys(ctx context.Context) ([]Found, error)
	// Generate makes a key from its role's template, proves it, or leaves none.
	// The id is not zero.
	Generate(ctx context.Context, ref Ref, alg Algorithm, id [16]byte) (KeyInfo, error)
	// Destroy removes a key, or the debris that has its label.
	Destroy(ctx context.Context, ref Ref) error

	// Check makes one small call through a lane: nil means that the module
	// answers and is logged in.
	Check(ctx context.Context) error
	// Info says which token this is and what it can do.
	Info(ctx context.Context) (TokenInfo, error)
	// Close ends waiting calls, waits for those in the module, and gives it up.
	// A second Close returns what the first did.
	Close() error
}

// Key names one key in a call. Every part must be that of the key on the token,
// else the call is ErrKeyNotFound: a new key under an old name is another key.
type Key struct {
	Ref Ref
	ID  [16]byte
	// Print is SHA-256 of the SubjectPublicKeyInfo; zero for secret keys.
	Print [sha256.Size]byte
}

// Key returns the name of the key that k describes.
func (k KeyInfo) Key() Key {
	key := Key{Ref: k.Ref, ID: k.ID}
	if k.Public != nil {
		if spki, err := x509.MarshalPKIXPublicKey(k.Public); err == nil { // our kinds of key never fail
			key.Print = sha256.Sum256(spki)
		}
	}
	return key
}

// Found is one of our keys on the token, usable or not.
type Found struct {
	KeyInfo
	Bad error // why it is not usable: ErrAmbiguous, ErrTemplate, ErrKeyNotFound (half a pair)
}

// Scheme names a way to sign.
type Scheme uint8

// The numbers are part of what engines speak; new schemes get new numbers.
const (
	SchemeECDSA    Scheme = 1
	SchemeEdDSA    Scheme = 2 // pure, without a context
	SchemePKCS1v15 Scheme = 3
	SchemePSS      Scheme = 4
)

// Mechanism is a scheme with its parameters.
type Mechanism struct {
	Scheme Scheme
	Hash   crypto.Hash // of the digest: SHA-256, SHA-384 or SHA-512; 0 for EdDSA
	Salt   int         // PSS: length of the salt in bytes
}

// Op names an operation of an Engine.
type Op uint8

// The numbers are part of what engines speak; new operations get new numbers.
const (
	OpSign     Op = 1
	OpMAC      Op = 2
	OpSeal     Op = 3
	OpUnseal   Op = 4
	OpAgree    Op = 5
	OpRandom   Op = 6
	OpFind     Op = 7
	OpKeys     Op = 8
	OpGenerate Op = 9
	OpDestroy  Op = 10
	OpCheck    Op = 11
	OpInfo     Op = 12
)

// Repeatable reports whether doing the operation twice does no harm.
func (o Op) Repeatable() bool { return o != OpGenerate && o != OpDestroy }

// String returns the metric label of the operation.
func (o Op) String() string {
	if int(o) < len(opNames) && opNames[o] != "" {
		return opNames[o]
	}
	return "unknown"
}

var opNames = [...]string{
	OpSign: "sign", OpMAC: "hmac", OpSeal: "gcm-seal", OpUnseal: "gcm-open", OpAgree: "ecdh", OpRandom: "random", OpFind: "find",
	OpKeys: "enumerate", OpGenerate: "generate", OpDestroy: "destroy", OpCheck: "check", OpInfo: "info",
}

// String returns the metric label of the scheme.
func (s Scheme) String() string {
	if int(s) < len(schemeNames) && schemeNames[s] != "" {
		return schemeNames[s]
	}
	return "unknown"
}

var schemeNames = [...]string{SchemeECDSA: "ecdsa", SchemeEdDSA: "eddsa", SchemePKCS1v15: "rsa-pkcs1", SchemePSS: "rsa-pss"}
