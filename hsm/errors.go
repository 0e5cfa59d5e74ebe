package hsm

import "github.com/signet-hsm/signet/fault"

// What callers tell apart. Everything else that comes from the module wraps
// fault.ErrUnavailable, because no verdict was reached; the PKCS#11 return value
// is in the chain as a pkcs11.Error, for the log.
var (
	// ErrKeyNotFound: no complete key has this reference.
	ErrKeyNotFound = fault.New(fault.NotFound, "HSM_KEY_NOT_FOUND", "the key does not exist")
	// ErrExists: the label or the id is taken on the token, if only by debris.
	ErrExists = fault.New(fault.Conflict, "HSM_KEY_EXISTS", "the key exists already")
	// ErrAmbiguous: two objects claim one label or one id. Nothing is guessed:
	// a private handle paired with another key's public half would issue
	// certificates that nobody can verify.
	ErrAmbiguous = fault.New(fault.Internal, "HSM_KEY_AMBIGUOUS", "the key is not unique in the HSM")
	// ErrTemplate: a key's attributes are not what its role demands.
	ErrTemplate = fault.New(fault.Internal, "HSM_KEY_TEMPLATE", "the HSM did not make the key as demanded")
	// ErrSeparation: the module lets keys do more than their roles allow.
	ErrSeparation = fault.New(fault.Internal, "HSM_SEPARATION", "the HSM does not keep keys to their roles")
	// ErrSelfTest: a new key did not pass its first sign and verify.
	ErrSelfTest = fault.New(fault.Internal, "HSM_KEY_SELF_TEST", "the HSM's new key failed its self test")
	// ErrPIN: the PIN was refused or locked. It is final until the token is
	// opened anew: a second attempt could lock the partition.
	ErrPIN = fault.New(fault.Unavailable, "HSM_PIN", "the HSM refuses its PIN")
	// ErrTokenNotFound: no slot holds the token that was asked for.
	ErrTokenNotFound = fault.New(fault.Unavailable, "HSM_TOKEN_NOT_FOUND", "the HSM token is not present")
	// ErrFull: the token has no room for another key. Those that are there go on.
	ErrFull = fault.New(fault.Unavailable, "HSM_FULL", "the HSM has no room for another key")
	// ErrSignature: the HSM answered with a signature that is not its key's. Nothing
	// of it leaves.
	ErrSignature = fault.New(fault.Unavailable, "HSM_SIGNATURE", "the HSM made a wrong signature")
	// ErrUnsupported: the module has no mechanism for what was asked, or the
	// role does not allow it.
	ErrUnsupported = fault.New(fault.Invalid, "HSM_UNSUPPORTED", "the HSM can not do this")
	// ErrRefused: the module understood the call and refuses it, whoever asks
	// again: usage bits, lengths, types.
	ErrRefused = fault.New(fault.Internal, "HSM_REFUSED", "the HSM refuses the operation")
	// ErrTag: a sealed blob, or the data it is bound to, was changed, or it was
	// sealed under another key. Only said when the key itself works.
	ErrTag = fault.New(fault.Internal, "HSM_TAG", "a sealed value is damaged")
	// ErrRef: a reference that can not be a label.
	ErrRef = fault.New(fault.Invalid, "HSM_REF", "not a key reference")
	// ErrClosed: the token was closed.
	ErrClosed = fault.New(fault.Unavailable, "HSM_CLOSED", "the HSM connection is closed")
	// ErrConfig: the configuration can not work.
	ErrConfig = fault.New(fault.Invalid, "HSM_CONFIG", "the HSM configuration is wrong")
)
