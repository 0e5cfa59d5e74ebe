package ca

import "github.com/signet-hsm/signet/fault"

var (
	// ErrNoSigner: no such signer, or it is another tenant's.
	ErrNoSigner = fault.New(fault.NotFound, "SIGNER_NOT_FOUND", "the signer does not exist")
	// ErrNotIssued: the signer has no certificate (any more).
	ErrNotIssued = fault.New(fault.Conflict, "SIGNER_NOT_ISSUED", "the signer has no issued certificate")
	// ErrSuperseded: a creation that started later was finished first.
	ErrSuperseded = fault.New(fault.Conflict, "SIGNER_SUPERSEDED", "a newer signer became active at the same time")
	// ErrBusy: too many creations at once for one tenant.
	ErrBusy = fault.New(fault.Conflict, "SIGNER_BUSY", "signers of this tenant are being created concurrently")
	// ErrOtherIssuer: the signer's certificate is of an issuer that is not the
	// configured one; it has to be renewed.
	ErrOtherIssuer = fault.New(fault.Conflict, "SIGNER_OTHER_ISSUER", "the signer was certified by an issuer that is no longer in use and must be renewed")
	// ErrRequest carries a violation for each wrong field.
	ErrRequest = fault.New(fault.Invalid, "CA_REQUEST", "the request is not valid")

	// ErrConfig: the authority can not start like this.
	ErrConfig = fault.New(fault.Internal, "CA_CONFIG", "the certificate authority is not configured correctly")
	// ErrKey: the HSM's key is not the certificate's, or does not work.
	ErrKey = fault.New(fault.Internal, "CA_KEY", "a signing key is not usable")
	// ErrRecord: a row is not in the state in which this request left it.
	ErrRecord = fault.New(fault.Internal, "CA_RECORD", "the certificate record changed unexpectedly")
)
