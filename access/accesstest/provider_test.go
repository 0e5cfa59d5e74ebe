package accesstest_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/access/accesstest"
	"github.com/signet-hsm/signet/tenant"
)

func TestAccessAcceptsItsTokens(t *testing.T) {
	t.Parallel()
	idp, err := accesstest.New("https://dev.invalid/realms/demo", "signet")
	require.NoError(t, err)
	doc, err := idp.JWKS()
	require.NoError(t, err)
	require.NotContains(t, string(doc), `"d"`, "public parts only")
	file := filepath.Join(t.TempDir(), "jwks.json")
	require.NoError(t, os.WriteFile(file, doc, 0o600))
	demo := tenant.MustParse("demo")
	realms, err := access.NewRealms(access.RealmsConfig{Realms: []access.Realm{
		{Tenant: demo, Issuer: idp.Issuer, Audience: idp.Audience, JWKSFile: file},
	}})
	require.NoError(t, err)

	token, err := idp.Token("tour", time.Hour, "admin-read", "admin-write")
	require.NoError(t, err)
	p, err := realms.Authenticate(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, access.Principal{
		Tenant: demo, Name: "tour", Privileges: access.Any(access.AdminRead, access.AdminWrite),
	}, p)

	token, err = idp.Token("tour", -time.Hour, "admin-read")
	require.NoError(t, err)
	_, err = realms.Authenticate(t.Context(), token)
	require.ErrorIs(t, err, access.ErrUnauthenticated)
}
