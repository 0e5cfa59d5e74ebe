package powerauth_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/token/tokentest"
)

// A code that the registration's server key signed leads to digits that the
// server takes.
func TestScanOffline(t *testing.T) {
	t.Parallel()
	ctx, in := t.Context(), tokentest.New(t)
	d, other := active(t, in, "petr", signature.V33), active(t, in, "jana", signature.V33)
	nonce := []byte("0123456789abcdef")
	const data = `A1*A100CZK*Q238400856/0300**D20170629*NUtility Bill\nPayment - 05/2017`
	for name, totp := range map[string]string{"seven lines": "", "with TOTP": "12345678"} {
		lines := []string{"5ff1b1ed-a3cc-45a3-8ab0-ed60950312b6", "Approve Login", `line\nbreak \\n`, data, "BX"}
		body := lines[0] + "&" + data
		if totp != "" {
			lines, body = append(lines, totp), body+"&"+totp
		}
		text := strings.Join(append(lines, signature.EncodeBase64(nonce), "1"), "\n")
		der, err := in.Registrations.SignPersonalized(ctx, pgtest.Alpha, d.ActivationID(), []byte(text))
		require.NoError(t, err)
		code := text + signature.EncodeBase64(der)
		s, err := d.ScanOffline(code)
		require.NoError(t, err, name)
		require.Equal(t, powerauth.Scanned{
			Offline: powerauth.Offline{OperationID: lines[0], Data: data, Nonce: [16]byte(nonce), TOTP: totp},
			Title:   "Approve Login", Message: "line\nbreak \\n", Flags: "BX", Personal: true,
		}, s)
		digits, err := d.SignOffline(s.Offline, pk)
		require.NoError(t, err)
		v, err := in.Registrations.VerifyOffline(ctx, pgtest.Alpha, registration.OfflineRequest{
			Apps: mine, ID: d.ActivationID(), URIID: "/operation/authorize/offline", Nonce: nonce,
			Data: [][]byte{[]byte(body)}, Signature: digits,
		})
		require.NoError(t, err)
		require.True(t, v.Valid)

		for bad, c := range map[string]string{
			"another amount": strings.Replace(code, "100CZK", "900CZK", 1),
			"master's":       strings.Replace(code, "\n1", "\n0", 1),
			"key type":       strings.Replace(code, "\n1", "\n2", 1),
			"cut":            strings.Join(strings.Split(code, "\n")[:6], "\n"),
			"empty":          "",
			"no signature":   text,
			"line feed":      code + "\n",
		} {
			_, err := d.ScanOffline(c)
			require.ErrorIs(t, err, powerauth.ErrOfflineQR, bad)
		}
		_, err = other.ScanOffline(code)
		require.ErrorIs(t, err, powerauth.ErrOfflineQR, "another's")
	}
}
