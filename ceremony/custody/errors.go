package custody

import "github.com/signet-hsm/signet/fault"

var (
	// ErrShares: too few shares, or one that is not what its custodian was given.
	ErrShares = fault.New(fault.Forbidden, "CUSTODY_SHARES", "the shares of the custodians do not open the secret")
	// ErrSealed: not a sealed secret, or one that was changed.
	ErrSealed = fault.New(fault.Invalid, "CUSTODY_SEALED", "not a sealed secret")
	// ErrPerson: a person that can not be one, or a key file that is not that person's.
	ErrPerson = fault.New(fault.Invalid, "CUSTODY_PERSON", "not the key of this person")
)
