package sdkconfig

import "github.com/signet-hsm/signet/fault"

var (
	// ErrRequest carries a violation for each wrong field.
	ErrRequest = fault.New(fault.Invalid, "SDK_CONFIG_REQUEST", "the SDK configuration is not valid")
	// ErrNoSigner: the tenant has no ACTIVE signer with a certificate.
	ErrNoSigner = fault.New(fault.Conflict, "SDK_CONFIG_NO_SIGNER", "the tenant has no active signer with an issued certificate")
)
