package powerauth_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/signature"
)

// A phone's life over HTTP, in every version of the protocol.
func TestDeviceProtocol(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, version := range []signature.Version{signature.V30, signature.V31, signature.V32, signature.V33} {
		t.Run(version.String(), func(t *testing.T) {
			ctx, pk := t.Context(), signature.PossessionKnowledge
			user := "jane-" + version.String()
			d := w.phoneOf("alpha/APP", version)
			c := w.create(w.shop, user, "APP", "")
			require.NoError(t, d.Activate(ctx, c.ActivationQrCodeData, powerauth.ActivateOptions{Name: "phone", Platform: "ios"}))
			require.Equal(t, 200, w.call("PA-REG-02", w.shop, "", c.RegistrationID).status)

			s, err := d.Status(ctx)
			require.NoError(t, err)
			require.Equal(t, "ACTIVE", s.State)
			require.NoError(t, d.ValidateSignature(ctx, signature.Possession))
			require.NoError(t, d.Rename(ctx, "Jane's new phone", pk))
			var reg map[string]any
			w.call("PA-REG-03", w.shop, "", d.ActivationID()).into(t, &reg)
			require.Equal(t, "Jane's new phone", reg["name"])

			key, err := d.UnlockVault(ctx, "ADD_BIOMETRY", pk)
			require.NoError(t, err)
			require.NotZero(t, key)
			again, err := d.UnlockVault(ctx, "", pk)
			require.NoError(t, err)
			require.Equal(t, key, again)
			var refused *powerauth.ServerError
			_, err = d.UnlockVault(ctx, "", signature.PossessionBiometry)
			require.ErrorAs(t, err, &refused)
			require.Equal(t, powerauth.ServerError{Status: 401, Code: "ERR_AUTHENTICATION", Message: "POWER_AUTH_SIGNATURE_TYPE_INVALID"}, *refused)

			require.NoError(t, d.RemoveActivation(ctx, pk))
			require.Equal(t, "ERROR_REGISTRATION_NOT_FOUND", w.call("PA-REG-03", w.shop, "", c.RegistrationID).code(t))
		})
	}
}
