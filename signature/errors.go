package signature

import "github.com/signet-hsm/signet/fault"

// Header errors. Each Reason is the code the PowerAuth reference answers for the
// same defect; the order in which the rules are tried is the reference's too.
var (
	ErrActivationIDEmpty    = invalid("POWER_AUTH_ACTIVATION_ID_EMPTY", "activation id is missing")
	ErrActivationIDInvalid  = invalid("POWER_AUTH_ACTIVATION_ID_INVALID", "activation id is not a UUID")
	ErrNonceEmpty           = invalid("POWER_AUTH_NONCE_EMPTY", "nonce is missing")
	ErrNonceInvalid         = invalid("POWER_AUTH_NONCE_INVALID", "nonce is not Base64 of 16 bytes")
	ErrTypeEmpty            = invalid("POWER_AUTH_SIGNATURE_TYPE_EMPTY", "signature type is missing")
	ErrTypeInvalid          = invalid("POWER_AUTH_SIGNATURE_TYPE_INVALID", "signature type is unknown")
	ErrSignatureEmpty       = invalid("POWER_AUTH_SIGNATURE_EMPTY", "signature is missing")
	ErrSignatureInvalid     = invalid("POWER_AUTH_SIGNATURE_INVALID", "signature has a wrong form")
	ErrApplicationEmpty     = invalid("POWER_AUTH_APPLICATION_EMPTY", "application key is missing")
	ErrApplicationInvalid   = invalid("POWER_AUTH_APPLICATION_INVALID", "application key is not Base64 of 16 bytes")
	ErrVersionEmpty         = invalid("POWER_AUTH_SIGNATURE_VERSION_EMPTY", "protocol version is missing")
	ErrVersionInvalid       = invalid("POWER_AUTH_SIGNATURE_VERSION_INVALID", "protocol version is not supported")
	ErrTokenIDEmpty         = invalid("POWER_AUTH_TOKEN_ID_EMPTY", "token id is missing")
	ErrTokenIDInvalid       = invalid("POWER_AUTH_TOKEN_ID_INVALID", "token id is not a UUID")
	ErrTokenDigestEmpty     = invalid("POWER_AUTH_TOKEN_DIGEST_EMPTY", "token digest is missing")
	ErrTokenDigestInvalid   = invalid("POWER_AUTH_TOKEN_DIGEST_INVALID", "token digest is not Base64 of 32 bytes")
	ErrTokenNonceEmpty      = invalid("POWER_AUTH_TOKEN_NONCE_EMPTY", "nonce is missing")
	ErrTokenNonceInvalid    = invalid("POWER_AUTH_TOKEN_NONCE_INVALID", "nonce is not Base64 of 16 bytes")
	ErrTokenTimeEmpty       = invalid("POWER_AUTH_TOKEN_TIMESTAMP_EMPTY", "timestamp is missing")
	ErrTokenTimeInvalid     = invalid("POWER_AUTH_TOKEN_TIMESTAMP_INVALID", "timestamp is not a number of 9 to 15 digits")
	ErrTokenVersionEmpty    = invalid("POWER_AUTH_TOKEN_VERSION_EMPTY", "protocol version is missing")
	ErrTokenVersionInvalid  = invalid("POWER_AUTH_TOKEN_VERSION_INVALID", "protocol version is not supported")
	ErrEncryptionAppEmpty   = invalid("POWER_AUTH_ENCRYPTION_APPLICATION_KEY_EMPTY", "application key is missing")
	ErrEncryptionAppInvalid = invalid("POWER_AUTH_ENCRYPTION_APPLICATION_KEY_INVALID", "application key is not Base64 of 16 bytes")
	ErrEncryptionIDMissing  = invalid("POWER_AUTH_ENCRYPTION_ACTIVATION_ID_MISSING", "activation id is missing")
	ErrEncryptionIDInvalid  = invalid("POWER_AUTH_ENCRYPTION_ACTIVATION_ID_INVALID", "activation id is not a UUID")
	ErrEncryptionIDExtra    = invalid("POWER_AUTH_ENCRYPTION_ACTIVATION_ID_NOT_EXPECTED", "activation id is not expected here")
	ErrEncryptionNoVersion  = invalid("POWER_AUTH_ENCRYPTION_VERSION_EMPTY", "protocol version is missing")
	ErrEncryptionVersion    = invalid("POWER_AUTH_ENCRYPTION_VERSION_INVALID", "protocol version is not supported")
)

// Errors of the remaining parsers and of the envelopes.
var (
	ErrBase64         = invalid("BASE64", "value is not Base64")
	ErrActivationCode = invalid("ACTIVATION_CODE", "activation code is malformed")
	ErrQuery          = invalid("QUERY", "query string has a bad escape")
	ErrPublicKey      = invalid("PUBLIC_KEY", "public key is not a point of P-256")
	ErrPrivateKey     = invalid("PRIVATE_KEY", "private key is not a scalar of P-256")
	ErrDigits         = invalid("SIGNATURE_DIGITS", "a signature component has 4 to 8 digits")
	ErrVaultKey       = invalid("VAULT_KEY", "vault key can not be opened")
	ErrStatusBlob     = invalid("STATUS_BLOB", "status blob is malformed")

	// ErrEnvelopeFields: a field is missing, superfluous for the version or of a
	// wrong size; the violations name it. The reference answers ERR0024.
	ErrEnvelopeFields = invalid("ENVELOPE_FIELDS", "encrypted message breaks the rules of its protocol version")
	// ErrEnvelopeOpen: wrong MAC or, with a right MAC, wrong padding. One error
	// for both, so that no padding oracle can grow. The reference: ERR0018.
	ErrEnvelopeOpen = invalid("ENVELOPE_OPEN", "encrypted message can not be opened")
	// ErrEnvelopeParams: the caller joined parameters that no version allows.
	ErrEnvelopeParams = fault.New(fault.Internal, "ENVELOPE_PARAMS", "encryption is set up wrongly")
	// ErrEnvelopeUsed: an envelope serves one request and one response.
	ErrEnvelopeUsed = fault.New(fault.Internal, "ENVELOPE_USED", "encryption envelope was used before")
)

func invalid(reason, message string) *fault.Error {
	return fault.New(fault.Invalid, reason, message)
}
