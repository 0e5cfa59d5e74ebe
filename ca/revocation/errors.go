package revocation

import "github.com/signet-hsm/signet/fault"

var (
	// ErrReason: not a reason that a certificate can be revoked for.
	ErrReason = fault.New(fault.Invalid, "REVOCATION_REASON", "the revocation reason is not known")
	// ErrRecord: the caller's record is incomplete, or a row is not what it must be.
	ErrRecord = fault.New(fault.Internal, "REVOCATION_RECORD", "the revocation record is not consistent")
	// ErrConfig: the publisher can not start like this.
	ErrConfig = fault.New(fault.Internal, "REVOCATION_CONFIG", "the publication of revocations is not configured correctly")

	// ErrNoIssuer: no CA that may sign has this key.
	ErrNoIssuer = fault.New(fault.NotFound, "ISSUER_NOT_FOUND", "the issuer does not exist")
	// ErrNoCRL: the issuer has no CRL of this number.
	ErrNoCRL = fault.New(fault.NotFound, "CRL_NOT_FOUND", "the CRL does not exist")
	// ErrNotPublished: the CRL is not signed yet, or could not be replaced in time.
	ErrNotPublished = fault.New(fault.Unavailable, "CRL_NOT_PUBLISHED", "there is no CRL that is valid now")
	// ErrUnknownCertificate: no certificate with a status; nothing is signed about it.
	ErrUnknownCertificate = fault.New(fault.NotFound, "OCSP_UNKNOWN", "the certificate is not known")
	// ErrMalformed: not an OCSP request that is answered.
	ErrMalformed = fault.New(fault.Invalid, "OCSP_MALFORMED", "the OCSP request is malformed")
	// ErrBusy: too many responses wait for the HSM.
	ErrBusy = fault.New(fault.Unavailable, "OCSP_BUSY", "too many OCSP responses are being signed")

	// ErrCheck: what the HSM signed is not what was asked, and was not published.
	ErrCheck = fault.New(fault.Internal, "REVOCATION_CHECK", "a new CRL or OCSP response did not pass its check")
)
