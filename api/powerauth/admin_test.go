package powerauth_test

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/client/powerauth"
)

// From nothing to a phone: an application, a user of its tier, the grant.
func TestPAADM01_to_PAADM05_PAX01_PAX02(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type application struct {
		ID                    string   `json:"id"`
		ServiceBaseURL        string   `json:"serviceBaseUrl"`
		AppKey                string   `json:"appKey"`
		AppSecret             string   `json:"appSecret"`
		MasterServerPublicKey string   `json:"masterServerPublicKey"`
		Roles                 []string `json:"roles"`
	}
	var made, read application
	w.call("PA-ADM-01", w.admin, `{"id":"NEW","roles":["R1","R2"]}`).into(t, &made)
	require.Equal(t, "https://pa.example", made.ServiceBaseURL)
	require.Equal(t, []string{"R1", "R2"}, made.Roles)
	key, err := base64.StdEncoding.DecodeString(made.MasterServerPublicKey)
	require.NoError(t, err)
	require.Len(t, key, 65)
	w.call("PA-ADM-03", w.admin, "", "?id=NEW").into(t, &read)
	require.Equal(t, made, read)
	w.call("PA-ADM-03", w.admin, "", "?id=NEW&version=default").into(t, &read)
	require.Equal(t, made, read)
	require.Equal(t, "ERROR_ADMIN", w.call("PA-ADM-01", w.admin, `{"id":"NEW"}`).code(t))
	require.Equal(t, "ERROR_REQUEST roles", w.call("PA-ADM-01", w.admin, `{"id":"N2","roles":[""]}`).code(t)[:len("ERROR_REQUEST roles")])
	for _, query := range []string{"?id=UNKNOWN", "?id=NEW&version=unknown"} {
		require.Equal(t, "ERROR_ADMIN", w.call("PA-ADM-03", w.admin, "", query).code(t), query)
	}
	require.JSONEq(t, `{"applications":[{"id":"APP"},{"id":"NEW"},{"id":"OTHER"}]}`, string(w.call("PA-ADM-02", w.admin, "").body))
	require.Equal(t, 200, w.call("PA-ADM-04", w.admin, `{"id":"NEW","roles":["R3","R1"]}`).status)
	require.Equal(t, 200, w.call("PA-ADM-05", w.admin, `{"id":"NEW","roles":["R2","UNKNOWN"]}`).status)
	w.call("PA-ADM-03", w.admin, "", "?id=NEW").into(t, &read)
	require.Equal(t, []string{"R1", "R3"}, read.Roles)
	for _, op := range []string{"PA-ADM-04", "PA-ADM-05"} {
		require.Equal(t, "ERROR_REQUEST id", w.call(op, w.admin, `{"id":"UNKNOWN","roles":[]}`).code(t))
		require.Equal(t, "ERROR_REQUEST roles", w.call(op, w.admin, `{"id":"NEW"}`).code(t))
	}
	require.Equal(t, "ERROR_REQUEST id", w.call("PA-ADM-03", w.admin, "").code(t))

	var user struct{ Username, Password string }
	var raw map[string]string
	w.call("PA-X-01", w.admin, `{"username":"tier"}`).into(t, &raw)
	user.Username, user.Password = raw["username"], raw["password"]
	require.Equal(t, "tier", user.Username)
	tier := login{user.Username, user.Password}
	const register = `{"userId":"jane","appId":"NEW"}`
	require.Equal(t, "ERROR_REGISTRATION_NOT_FOUND", w.call("PA-REG-01", tier, register).code(t), "not granted yet")
	require.Equal(t, "ERROR_ADMIN", w.call("PA-X-01", w.admin, `{"username":"tier"}`).code(t))
	require.Equal(t, "ERROR_REQUEST username", w.call("PA-X-01", w.admin, `{"username":"a:b"}`).code(t))
	require.Equal(t, "ERROR_ADMIN", w.call("PA-X-02", w.admin, "", "tier", "UNKNOWN").code(t))
	require.Equal(t, "ERROR_ADMIN", w.call("PA-X-02", w.admin, "", "unknown", "NEW").code(t))
	require.JSONEq(t, `{"status":"OK"}`, string(w.call("PA-X-02", w.admin, "", "tier", "NEW").body))
	require.Equal(t, 200, w.call("PA-X-02", w.admin, "", "tier", "NEW").status, "again changes nothing")

	c := w.create(tier, "jane", "NEW", "")
	d, err := powerauth.New(powerauth.Config{
		BaseURL: w.url, ApplicationKey: made.AppKey, ApplicationSecret: made.AppSecret, MasterPublicKey: made.MasterServerPublicKey,
	})
	require.NoError(t, err)
	require.NoError(t, d.Activate(t.Context(), c.ActivationQrCodeData, powerauth.ActivateOptions{Platform: "ios"}))
}

func TestPAAUD01_Log(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active("jane")
	require.Equal(t, 200, w.call("PA-AUTH-01", w.shop, `{"method":"POST","uriId":"/pay","authHeader":`+text(t, w.signed(d))+`}`).status)
	var log struct {
		Items []struct {
			ActivationID string `json:"activationId"`
			EventType    string `json:"eventType"`
			Timestamp    int64  `json:"timestamp"`
		} `json:"items"`
	}
	w.call("PA-AUD-01", w.shop, "", "?userId=jane").into(t, &log)
	require.Len(t, log.Items, 4, "created, keys exchanged, committed, verified")
	require.Equal(t, "signature_ok", log.Items[0].EventType, "newest first")
	require.Equal(t, d.ActivationID(), log.Items[0].ActivationID)
	newest := log.Items[0].Timestamp
	w.call("PA-AUD-01", w.shop, "", fmt.Sprintf("?userId=jane&timestampFrom=%d&timestampTo=%d", newest+1, time.Now().Add(time.Hour).UnixMilli())).into(t, &log)
	require.Empty(t, log.Items)
	for query, code := range map[string]string{
		"":               "ERROR_REQUEST userId",
		"?userId=nobody": "ERROR_AUDIT",
		"?userId=jane&timestampFrom=2&timestampTo=1":      "ERROR_AUDIT",
		"?userId=jane&timestampFrom=-9223372036854775808": "ERROR_AUDIT",
		"?userId=jane&timestampTo=9223372036854775807":    "ERROR_AUDIT",
		"?userId=jane&timestampFrom=yesterday":            "ERROR_REQUEST timestampFrom",
		"?userId=jane&timestampFrom=1&timestampFrom=2":    "ERROR_REQUEST timestampFrom",
		"?userId=jane&timestampTo=9223372036854775808":    "ERROR_REQUEST timestampTo",
	} {
		args := []string{query}
		if query == "" {
			args = nil
		}
		require.Equal(t, code, w.call("PA-AUD-01", w.shop, "", args...).code(t), query)
	}
	require.Equal(t, "ERROR_AUDIT", w.call("PA-AUD-01", w.other, "", "?userId=jane").code(t))
}
