package revocation

import "fmt"

// Reason is a CRLReason of RFC 5280 section 5.3.1.
type Reason uint8

// The reasons that certificates can be revoked for. certificateHold and
// removeFromCRL are left out: a revocation is final.
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	CACompromise         Reason = 2
	AffiliationChanged   Reason = 3
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
	PrivilegeWithdrawn   Reason = 9
	AACompromise         Reason = 10
)

var reasonNames = map[Reason]string{
	Unspecified: "UNSPECIFIED", KeyCompromise: "KEY_COMPROMISE", CACompromise: "CA_COMPROMISE",
	AffiliationChanged: "AFFILIATION_CHANGED", Superseded: "SUPERSEDED", CessationOfOperation: "CESSATION_OF_OPERATION",
	PrivilegeWithdrawn: "PRIVILEGE_WITHDRAWN", AACompromise: "AA_COMPROMISE",
}

// ParseReason takes the name that String gives; ErrReason otherwise.
func ParseReason(s string) (Reason, error) {
	for r, name := range reasonNames {
		if s == name {
			return r, nil
		}
	}
	return 0, ErrReason
}

// Valid reports whether r is one of the constants.
func (r Reason) Valid() bool { _, ok := reasonNames[r]; return ok }

// String returns the name as APIs and the audit trail have it.
func (r Reason) String() string {
	if name, ok := reasonNames[r]; ok {
		return name
	}
	return fmt.Sprintf("REASON_%d", uint8(r))
}
