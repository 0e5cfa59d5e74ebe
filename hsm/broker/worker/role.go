package worker

import (
	"fmt"
	"slices"

	"github.com/signet-hsm/signet/hsm"
)

// Role is what a worker may do.
type Role string

// The roles; each may do what the one before it may.
const (
	RoleUse      Role = "use"      // use keys and find them
	RoleManage   Role = "manage"   // make and destroy keys of the roles that a service makes by itself
	RoleCeremony Role = "ceremony" // make and destroy any key
)

// managed are the roles of keys that come and go while a service runs. The others
// are made once, by a ceremony or the bootstrap.
var managed = []hsm.Role{hsm.RoleSigner, hsm.RoleMaster, hsm.RoleOCSP, hsm.RoleCRL}

// ParseRole reads a role.
func ParseRole(s string) (Role, error) {
	if r := Role(s); r == RoleUse || r == RoleManage || r == RoleCeremony {
		return r, nil
	}
	return "", fmt.Errorf("worker: unknown role %q", s)
}

// allows refuses what the role may not do with a key.
func (r Role) allows(op hsm.Op, ref hsm.Ref) error {
	if op.Repeatable() || r == RoleCeremony || r == RoleManage && slices.Contains(managed, ref.Role) {
		return nil
	}
	return fmt.Errorf("worker: %w: a worker of role %s must not %s keys of role %s", hsm.ErrRefused, r, op, ref.Role)
}
