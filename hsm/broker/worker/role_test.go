package worker

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/hsm"
)

// Every role may use every key; who makes and destroys which is this table.
func TestRoles(t *testing.T) {
	t.Parallel()
	makes := map[Role][]hsm.Role{
		RoleUse:      {},
		RoleManage:   {hsm.RoleSigner, hsm.RoleMaster, hsm.RoleOCSP, hsm.RoleCRL},
		RoleCeremony: {hsm.RoleRoot, hsm.RoleIssuer, hsm.RoleSigner, hsm.RoleMaster, hsm.RoleOCSP, hsm.RoleCRL, hsm.RoleKEK, hsm.RoleMAC, hsm.RoleAudit},
	}
	for role, may := range makes {
		parsed, err := ParseRole(string(role))
		require.NoError(t, err)
		require.Equal(t, role, parsed)
		for _, key := range makes[RoleCeremony] {
			ref := hsm.Ref{Tenant: "alpha", Role: key, Name: "k"}
			for op := hsm.OpSign; op <= hsm.OpInfo; op++ {
				err := role.allows(op, ref)
				if op != hsm.OpGenerate && op != hsm.OpDestroy {
					require.NoError(t, err, "%s %s %s", role, op, key)
					continue
				}
				allowed := slices.Contains(may, key)
				require.Equal(t, allowed, err == nil, "%s %s %s", role, op, key)
				if !allowed {
					require.ErrorIs(t, err, hsm.ErrRefused)
				}
			}
		}
	}
	for _, bad := range []string{"", "root", "USE", "use "} {
		_, err := ParseRole(bad)
		require.Error(t, err, bad)
	}
}
