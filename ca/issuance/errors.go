package issuance

import "github.com/signet-hsm/signet/fault"

// What a requester did wrong. Messages never repeat request content.
var (
	// ErrRequest: not a DER PKCS#10 request, too long, or bytes behind its end.
	ErrRequest = fault.New(fault.Invalid, "CSR_INVALID", "the certificate request is not a well-formed PKCS#10 request in DER")
	// ErrRequestSignature: proof of possession failed, or is made with a refused algorithm.
	ErrRequestSignature = fault.New(fault.Invalid, "CSR_SIGNATURE", "the certificate request is not signed with its own key by an accepted algorithm")
	// ErrKeyAlgorithm: a kind of key that the profile does not allow.
	ErrKeyAlgorithm = fault.New(fault.Invalid, "CSR_KEY_ALGORITHM", "the kind or size of the public key is not allowed")
	// ErrWeakKey: a key that can be factored with known means.
	ErrWeakKey = fault.New(fault.Invalid, "CSR_WEAK_KEY", "the public key is weak")
	// ErrExtension: the request asks for more than its profile gives.
	ErrExtension = fault.New(fault.Invalid, "CSR_EXTENSION", "the certificate request asks for an extension that its profile does not give")
	// ErrKeyBlocked: a key on the installation's block list.
	ErrKeyBlocked = fault.New(fault.Invalid, "CSR_KEY_BLOCKED", "the public key is known to be compromised")
	// ErrAltName: an alternative name outside the profile's policy.
	ErrAltName = fault.New(fault.Invalid, "CERT_ALT_NAME", "an alternative name does not fit the certificate profile")
	// ErrSubject: the caller's subject breaks the profile's subject policy.
	ErrSubject = fault.New(fault.Invalid, "CERT_SUBJECT", "the subject does not fit the certificate profile")
)

// What the installation has wrong, and broken invariants.
var (
	ErrProfile       = fault.New(fault.Internal, "CERT_PROFILE", "the certificate profile is not usable")
	ErrIssuer        = fault.New(fault.Internal, "CERT_ISSUER", "the issuing certificate is not usable")
	ErrIssuerExpired = fault.New(fault.Conflict, "CERT_ISSUER_EXPIRED", "the issuing certificate is not valid now")
	ErrLocation      = fault.New(fault.Internal, "CERT_LOCATION", "an address for the certificate is not usable")
	ErrLint          = fault.New(fault.Internal, "CERT_LINT", "the certificate would break a rule")
	ErrSerial        = fault.New(fault.Internal, "CERT_SERIAL", "the serial number is not usable")
	ErrDraftUsed     = fault.New(fault.Internal, "CERT_DRAFT_USED", "the certificate draft was already signed")
	ErrSigning       = fault.New(fault.Internal, "CERT_SIGNING", "the certificate could not be signed")
	ErrChain         = fault.New(fault.Internal, "CERT_CHAIN", "the certificate chain does not verify")
)
