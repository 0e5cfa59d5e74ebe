package powerauth_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	api "github.com/signet-hsm/signet/api/powerauth"
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

// calls is a transport that remembers what was answered with 200.
type calls struct {
	mu sync.Mutex
	ok map[string]bool
}

func (c *calls) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && resp.StatusCode == http.StatusOK {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ok[r.Method+" "+r.URL.Path] = true
	}
	return resp, err
}

// The reference device has a method for every route of a device, and calls
// nothing else.
func TestPhoneCallsEveryRoute(t *testing.T) {
	t.Parallel()
	w, ctx := newWorld(t), t.Context()
	w.template("pay")
	seen := &calls{ok: map[string]bool{}}
	const pk = signature.PossessionKnowledge
	c := w.create(w.shop, "jane", "APP", "")
	config := w.phoneConfig("alpha/APP", signature.V33)
	config.HTTP = &http.Client{Transport: seen}
	d, err := powerauth.New(config)
	require.NoError(t, err)
	at, err := d.ServerTime(ctx)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), at, time.Minute)
	require.NoError(t, d.Activate(ctx, c.ActivationQrCodeData, powerauth.ActivateOptions{Name: "phone"}))
	require.Equal(t, 200, w.call("PA-REG-02", w.shop, "", c.RegistrationID).status)
	_, err = d.Status(ctx)
	require.NoError(t, err)
	require.NoError(t, d.Rename(ctx, "new", pk))
	_, err = d.UnlockVault(ctx, "", pk)
	require.NoError(t, err)

	// Signatures of every method, and none that covers something else.
	require.NoError(t, d.ValidateSignature(ctx, pk))
	require.NoError(t, d.Validate(ctx, http.MethodPost, nil, pk))
	require.NoError(t, d.Validate(ctx, http.MethodPut, []byte(`{"a":1}`), signature.Possession))
	require.NoError(t, d.Validate(ctx, http.MethodDelete, nil, pk))
	require.NoError(t, d.Validate(ctx, http.MethodDelete, []byte(`{}`), pk))
	require.NoError(t, d.ValidateGET(ctx, nil, pk))
	require.NoError(t, d.ValidateGET(ctx, map[string]string{"b": "ž &=+", "a": "1"}, pk))

	token, err := d.CreateToken(ctx, signature.Possession)
	require.NoError(t, err)
	op, rejected := w.operate("jane"), w.operate("jane")
	list, err := d.Operations(ctx, token)
	require.NoError(t, err)
	require.Len(t, list, 2)
	shown, err := d.Operation(ctx, token, op.OperationID)
	require.NoError(t, err)
	require.Equal(t, "A1*A100CZK*NRent", shown.Data)
	require.Equal(t, "Pay", shown.Form.Title)
	require.NoError(t, d.Approve(ctx, shown, pk))
	require.NoError(t, d.Reject(ctx, powerauth.Operation{ID: rejected.OperationID}, "UNKNOWN"))
	past, err := d.History(ctx, pk)
	require.NoError(t, err)
	var states []string
	for _, o := range past {
		states = append(states, o.Status)
	}
	require.ElementsMatch(t, []string{"APPROVED", "REJECTED"}, states)
	var refused *powerauth.ServerError
	_, err = d.History(ctx, signature.Possession)
	require.ErrorAs(t, err, &refused)
	_, err = d.Operation(ctx, token, op.OperationID)
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "OPERATION_ALREADY_FINISHED", refused.Code)

	require.NoError(t, d.RegisterPush(ctx, powerauth.PushTarget{Platform: "fcm", Token: "first"}, signature.Possession))
	require.NoError(t, d.RegisterPushByToken(ctx, powerauth.PushTarget{Platform: "hms", Token: "second"}, token))
	var platform string
	require.NoError(t, w.DB.QueryRow(ctx, `select platform from push_device where registration_id = $1`, d.ActivationID()).Scan(&platform))
	require.Equal(t, "hms", platform)
	require.ErrorAs(t, d.RegisterPush(ctx, powerauth.PushTarget{Platform: "apns", Token: "no hex"}, pk), &refused)
	require.Equal(t, "INVALID_REQUEST", refused.Code)

	for _, s := range []string{"one", "two"} {
		require.Equal(t, 200, w.call("PA-X-10", w.shop, `{"userId":"jane","subject":"`+s+`","summary":"S","body":"B"}`).status)
	}
	unread := func() int {
		n, err := d.InboxCount(ctx, token)
		require.NoError(t, err)
		return n
	}
	require.Equal(t, 2, unread())
	messages, err := d.Inbox(ctx, token, powerauth.InboxPage{})
	require.NoError(t, err)
	require.Len(t, messages, 2)
	require.Equal(t, "two", messages[0].Subject)
	require.WithinDuration(t, time.Now(), messages[0].Created.Time, time.Minute)
	second, err := d.Inbox(ctx, token, powerauth.InboxPage{Number: 1, Size: 1})
	require.NoError(t, err)
	require.Equal(t, messages[1:], second)
	m, err := d.InboxMessage(ctx, token, messages[1].ID)
	require.NoError(t, err)
	require.Equal(t, "B", m.Body)
	require.False(t, m.Read)
	require.NoError(t, d.ReadInbox(ctx, token, m.ID))
	require.Equal(t, 1, unread())
	messages, err = d.Inbox(ctx, token, powerauth.InboxPage{Unread: true})
	require.NoError(t, err)
	require.Len(t, messages, 1)
	require.NoError(t, d.ReadAllInbox(ctx, token))
	require.Zero(t, unread())
	require.ErrorAs(t, d.ReadInbox(ctx, token, "x"), &refused)
	require.Equal(t, "INBOX_NOT_FOUND", refused.Code)

	require.NoError(t, d.RemoveToken(ctx, token, pk))
	require.NoError(t, d.RemoveActivation(ctx, pk))

	var routes, called []string
	for _, r := range slices.Concat(api.DeviceRoutes(), api.MobileRoutes()) {
		routes = append(routes, r.Method+" "+r.Pattern)
	}
	for call := range seen.ok {
		called = append(called, call)
	}
	require.ElementsMatch(t, routes, called)
}
