package powerauth_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestPAX05_PAX13_PAX14_PAX15_Callbacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var list struct {
		Callbacks []map[string]any `json:"callbacks"`
	}
	have := func() []map[string]any {
		w.call("PA-X-13", w.shop, "", "APP").into(t, &list)
		return list.Callbacks
	}
	require.Empty(t, have())
	var made, next map[string]any
	w.call("PA-X-05", w.shop, `{"name":"ops","type":"OPERATION_STATUS_CHANGE","callbackUrl":"https://bank.example/cb"}`, "APP").into(t, &made)
	id, _ := made["id"].(string)
	got := have()
	require.Len(t, got, 1)
	require.Equal(t, map[string]any{
		"id": id, "name": "ops", "type": "OPERATION_STATUS_CHANGE", "callbackUrl": "https://bank.example/cb", "timestampCreated": got[0]["timestampCreated"],
	}, got[0], "without its secret")

	w.call("PA-X-15", w.shop, "", "APP", id).into(t, &next)
	require.Equal(t, id, next["id"])
	require.Regexp(t, `^whsec_`, next["secret"])
	require.NotEqual(t, made["secret"], next["secret"])

	for _, op := range []string{"PA-X-14", "PA-X-15"} {
		require.Equal(t, "ERROR_ADMIN", w.call(op, w.shop, "", "APP", uuid.NewString()).code(t))
		require.Equal(t, "ERROR_ADMIN", w.call(op, w.shop, "", "APP", "x").code(t))
		require.Equal(t, "ERROR_ADMIN", w.call(op, w.shop, "", "OTHER", id).code(t))
		require.Equal(t, "ERROR_ADMIN", w.call(op, w.other, "", "OTHER", id).code(t), "another application's")
		require.Equal(t, "ERROR_ADMIN", w.call(op, w.betaShop, "", "APP", id).code(t), "another tenant's")
	}
	require.JSONEq(t, `{"status":"OK"}`, string(w.call("PA-X-14", w.shop, "", "APP", id).body))
	require.Equal(t, "ERROR_ADMIN", w.call("PA-X-14", w.shop, "", "APP", id).code(t))
	require.Empty(t, have())
}
