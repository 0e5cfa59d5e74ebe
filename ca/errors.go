package ca

import "github.com/signet-hsm/signet/fault"

var (
	// ErrNoSigner: no such signer, or it is another tenant's.
	ErrNoSigner = fault.New(fault.NotFound, "SIGNER_NOT_FOUND", "the signer does not exist")
	// ErrNotIssued: the signer has no certificate (any more), or the last request
	// for one failed and the caller did not say to ignore that.
	ErrNotIssued = fault.New(fault.Conflict, "SIGNER_NOT_ISSUED", "the signer has no issued certificate")
	// ErrSignerUsed: something was issued or stated by the signer, or asked of it.
	ErrSignerUsed = fault.New(fault.Conflict, "SIGNER_USED", "certificates or configurations were requested from the signer, it can only be replaced or revoked")
	// ErrSignerRevoked: nothing leads back from REVOKED.
	ErrSignerRevoked = fault.New(fault.Conflict, "SIGNER_REVOKED", "the signer is revoked")
	// ErrQueued: one request for a certificate at a time.
	ErrQueued = fault.New(fault.Conflict, "SIGNER_QUEUED", "a certificate request for the signer is already queued")
	// ErrSuperseded: a creation that started later was finished first.
	ErrSuperseded = fault.New(fault.Conflict, "SIGNER_SUPERSEDED", "a newer signer became active at the same time")
	// ErrBusy: too many creations at once for one tenant.
	ErrBusy = fault.New(fault.Conflict, "SIGNER_BUSY", "signers of this tenant are being created concurrently")
	// ErrOtherIssuer: the signer's certificate is of an issuer that is not the
	// configured one; it has to be renewed.
	ErrOtherIssuer = fault.New(fault.Conflict, "SIGNER_OTHER_ISSUER", "the signer was certified by an issuer that is no longer in use and must be renewed")
	// ErrNoCertificate: no such certificate request, or it is another tenant's.
	ErrNoCertificate = fault.New(fault.NotFound, "CERTIFICATE_NOT_FOUND", "the certificate does not exist")
	// ErrCertificateState: the certificate is not ISSUED.
	ErrCertificateState = fault.New(fault.Conflict, "CERTIFICATE_STATE", "the certificate is not in a state that allows this")
	// ErrSignerCertificate: a signer is revoked as a whole.
	ErrSignerCertificate = fault.New(fault.Conflict, "CERTIFICATE_OF_SIGNER", "the certificate is a signer's, revoke the signer")
	// ErrPeer: the old certificate does not entitle its holder to a new one. Why
	// not is for the log, not for whoever holds it.
	ErrPeer = fault.New(fault.Forbidden, "CERTIFICATE_REFUSED", "the certificate does not entitle to a new one")
	// ErrRenewals: a client renews more often than any device has reason to.
	ErrRenewals = fault.New(fault.Exhausted, "CERTIFICATE_RENEWALS", "the certificate was renewed too often, try again in an hour")
	// ErrRequest carries a violation for each wrong field.
	ErrRequest = fault.New(fault.Invalid, "CA_REQUEST", "the request is not valid")

	// ErrConfig: the authority can not start like this.
	ErrConfig = fault.New(fault.Internal, "CA_CONFIG", "the certificate authority is not configured correctly")
	// ErrKey: the HSM's key is not the certificate's, or does not work.
	ErrKey = fault.New(fault.Internal, "CA_KEY", "a signing key is not usable")
	// ErrRecord: a row is not in the state in which this request left it.
	ErrRecord = fault.New(fault.Internal, "CA_RECORD", "the certificate record changed unexpectedly")
)
