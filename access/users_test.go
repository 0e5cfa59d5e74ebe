package access_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/tenant"
)

func TestPAX01_Users_PAX02_Grants(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ctx := t.Context()
	log, err := audit.New(audit.Config{DB: s.db.Pool})
	require.NoError(t, err)
	b, err := access.NewBasic(access.BasicConfig{DB: s.db, Sealer: s.sealer, Audit: log})
	require.NoError(t, err)
	admin := b.By("root")
	list, err := b.List(ctx, alpha)
	require.NoError(t, err)
	require.Empty(t, list)

	first, err := admin.Create(ctx, alpha, integration("shop", "B", "A"))
	require.NoError(t, err)
	_, err = admin.Create(ctx, alpha, integration("bank"))
	require.NoError(t, err)
	_, err = b.Create(ctx, tenant.MustParse("beta"), integration("twin"))
	require.NoError(t, err)
	_, err = b.Authenticate(ctx, "shop", string(first.Reveal()))
	require.NoError(t, err)
	require.NoError(t, admin.Grant(ctx, alpha, "bank", "A"))
	require.NoError(t, admin.Grant(ctx, alpha, "bank", "A"))
	second, err := admin.Reset(ctx, alpha, "shop")
	require.NoError(t, err)
	_, err = b.Authenticate(ctx, "shop", string(first.Reveal()))
	require.ErrorIs(t, err, access.ErrUnauthenticated, "what one remembers the other forgets")
	_, err = b.Authenticate(ctx, "shop", string(second.Reveal()))
	require.NoError(t, err)
	require.NoError(t, admin.Disable(ctx, alpha, "shop"))
	require.NoError(t, admin.Disable(ctx, alpha, "shop"))

	list, err = b.List(ctx, alpha)
	require.NoError(t, err)
	require.Len(t, list, 2)
	for i := range list {
		require.NotZero(t, list[i].CreatedAt)
		list[i].CreatedAt = list[0].CreatedAt
	}
	require.Equal(t, []access.User{
		{Username: "bank", Role: access.PAIntegration, Enabled: true, Apps: []string{"A"}, CreatedAt: list[0].CreatedAt},
		{Username: "shop", Role: access.PAIntegration, Apps: []string{"A", "B"}, CreatedAt: list[0].CreatedAt},
	}, list)

	// What fails or changes nothing leaves no event.
	for _, err := range []error{
		admin.Grant(ctx, alpha, "nobody", "A"), admin.Grant(ctx, alpha, "twin", "A"), admin.Disable(ctx, alpha, "nobody"),
	} {
		require.ErrorIs(t, err, access.ErrUserUnknown)
	}
	_, err = admin.Create(ctx, alpha, integration("shop"))
	require.ErrorIs(t, err, access.ErrUserExists)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	_, err = admin.Reset(ctx, alpha, "nobody")
	require.ErrorIs(t, err, access.ErrUserUnknown)

	events, err := log.List(ctx, alpha, audit.Filter{})
	require.NoError(t, err)
	var got []string
	for _, e := range events {
		require.Equal(t, "root", e.Actor)
		got = append([]string{e.Action + " " + e.Subject + " " + e.AppID}, got...)
		require.NotContains(t, e.Detail, "password")
	}
	require.Equal(t, []string{
		"access.user.create shop ", "access.user.create bank ", "access.user.grant bank A", "access.user.reset shop ", "access.user.disable shop ",
	}, got)
}

// What can not be a username is nobody's, and no outage of the database.
func TestUsernamesThatCanNotBe(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ctx := t.Context()
	b, err := access.NewBasic(access.BasicConfig{DB: s.db, Sealer: s.sealer})
	require.NoError(t, err)
	for _, name := range []string{"", "a\x00b", "\xff", "a:b", "a\nb", string(make([]byte, 300))} {
		require.ErrorIs(t, b.Grant(ctx, alpha, name, "A"), access.ErrUserUnknown, "%q", name)
		require.ErrorIs(t, b.Disable(ctx, alpha, name), access.ErrUserUnknown, "%q", name)
		_, err := b.Reset(ctx, alpha, name)
		require.ErrorIs(t, err, access.ErrUserUnknown, "%q", name)
		_, err = b.Authenticate(ctx, name, "x")
		require.ErrorIs(t, err, access.ErrUnauthenticated, "%q", name)
	}
	require.ErrorIs(t, b.Grant(ctx, alpha, "shop", "a\x00"), access.ErrCredential)
}
