package powerauth_test

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/signature"
)

// A rotation as an operator does it: the new key, a version with it, and the old
// version called back once nobody uses it.
func TestPAX16_to_PAX19_Versions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type version struct {
		Version               string `json:"version"`
		AppKey                string `json:"appKey"`
		AppSecret             string `json:"appSecret"`
		MasterServerPublicKey string `json:"masterServerPublicKey"`
		MasterKeyGeneration   int    `json:"masterKeyGeneration"`
		Supported             bool   `json:"supported"`
	}
	before := base64.StdEncoding.EncodeToString(w.Masters["alpha/APP"])
	old := w.active("jane")
	var master, made version
	w.call("PA-X-19", w.admin, "", "APP").into(t, &master)
	require.Equal(t, 1, master.MasterKeyGeneration)
	require.NotEqual(t, before, master.MasterServerPublicKey)
	w.call("PA-X-17", w.admin, `{"version":"2.0"}`, "APP").into(t, &made)
	require.Equal(t, master.MasterServerPublicKey, made.MasterServerPublicKey)
	require.Equal(t, 1, made.MasterKeyGeneration)

	var list struct {
		Versions []version `json:"versions"`
	}
	versions := func() []version {
		w.call("PA-X-16", w.admin, "", "APP").into(t, &list)
		return list.Versions
	}
	first := w.Versions["alpha/APP"]
	require.Equal(t, []version{
		{Version: first.Name, AppKey: base64.StdEncoding.EncodeToString(first.Key[:]), Supported: true},
		{Version: "2.0", AppKey: made.AppKey, Supported: true, MasterKeyGeneration: 1},
	}, versions())

	// Both kinds of phone work; a new code is signed with the new key.
	_, err := old.Status(t.Context())
	require.NoError(t, err)
	require.NoError(t, old.ValidateSignature(t.Context(), signature.Possession))
	c := w.create(w.shop, "joe", "APP", "")
	young, err := powerauth.New(powerauth.Config{
		BaseURL: w.url, ApplicationKey: made.AppKey, ApplicationSecret: made.AppSecret, MasterPublicKey: made.MasterServerPublicKey,
	})
	require.NoError(t, err)
	require.NoError(t, young.Activate(t.Context(), c.ActivationQrCodeData, powerauth.ActivateOptions{Platform: "ios"}))

	require.JSONEq(t, `{"status":"OK"}`, string(w.call("PA-X-18", w.admin, `{"supported":false}`, "APP", "default").body))
	require.Equal(t, 200, w.call("PA-X-18", w.admin, `{"supported":false}`, "APP", "default").status, "again changes nothing")
	require.False(t, versions()[0].Supported)
	require.Error(t, old.ValidateSignature(t.Context(), signature.Possession))
	require.Equal(t, "ERROR_ADMIN", w.call("PA-ADM-03", w.admin, "", "?id=APP&version=default").code(t))
	require.Equal(t, 200, w.call("PA-X-18", w.admin, `{"supported":true}`, "APP", "default").status)
	require.NoError(t, old.ValidateSignature(t.Context(), signature.Possession))

	require.Equal(t, "ERROR_ADMIN", w.call("PA-X-17", w.admin, `{"version":"2.0"}`, "APP").code(t))
	require.Equal(t, "ERROR_REQUEST version", w.call("PA-X-17", w.admin, `{"version":""}`, "APP").code(t))
	require.Equal(t, "ERROR_REQUEST supported", w.call("PA-X-18", w.admin, `{}`, "APP", "2.0").code(t))
	require.Equal(t, "ERROR_ADMIN", w.call("PA-X-18", w.admin, `{"supported":true}`, "APP", "3.0").code(t))
	for id, body := range map[string]string{"PA-X-16": "", "PA-X-17": `{"version":"1"}`, "PA-X-19": ""} {
		require.Equal(t, "ERROR_ADMIN", w.call(id, w.admin, body, "UNKNOWN").code(t), id)
	}
}
