package registration_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
)

const offlineURI = "/operation/authorize/offline"

var offlineNonce = []byte("0123456789abcdef")

// offline makes what the person types, with the next counter.
func (d *device) offline(f signature.Factor, data string) registration.OfflineRequest {
	sig, err := d.keys.SignOffline(8, f, signature.Request{
		Method: "POST", URIID: offlineURI, Nonce: offlineNonce, Body: []byte(data), Secret: []byte(signature.OfflineSecret),
	}, d.ctr)
	require.NoError(d.w.tb, err)
	d.ctr = d.ctr.Next()
	return registration.OfflineRequest{
		Apps: mine, ID: strings.ToUpper(d.id), URIID: offlineURI, Nonce: offlineNonce,
		Data: [][]byte{[]byte(data)}, Signature: sig.String(), Actor: "backend",
	}
}

func (d *device) verifyOffline(req registration.OfflineRequest) registration.Verdict {
	d.w.tb.Helper()
	v, err := d.w.node.VerifyOffline(d.w.tb.Context(), d.tenant, req)
	require.NoError(d.w.tb, err)
	return v
}

func TestPAOP05_OfflineInThreeForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	for i, form := range []func(string) string{
		func(s string) string { return s },
		func(s string) string { return strings.ReplaceAll(s, "-", "") },
		func(s string) string { return s[:4] + "-" + s[4:8] + "-" + s[9:13] + "-" + s[13:] },
	} {
		req := d.offline(signature.PossessionKnowledge, "op&A1")
		req.Signature = form(req.Signature)
		require.Equal(t, registration.Verdict{
			Valid: true, ID: d.id, Status: registration.StateActive, Factors: signature.PossessionKnowledge, Judged: true,
			UserID: "petr", App: "APP", Roles: []string{"ROLE"}, Flags: []string{"FLAG"}, RemainingAttempts: 5,
		}, d.verifyOffline(req))
		require.EqualValues(t, i+1, w.row(alpha, d.id).Counter)
		require.False(t, d.verifyOffline(req).Valid, "once")
	}
	require.Equal(t, "3.2", w.row(alpha, d.id).Version, "no protocol version comes with digits")
	events := w.events(alpha, d.id, "registration.verify_offline")
	require.Equal(t, map[string]int{"signature_ok": 3, "signature_does_not_match": 3}, outcomes(events))
	require.Equal(t, "POSSESSION_KNOWLEDGE", events[0].Detail["type"])
	require.Equal(t, false, events[0].Detail["biometryAllowed"])
}

func TestPAOP05_OfflineBiometryOnlyWhenAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	v := d.verifyOffline(d.offline(signature.PossessionBiometry, "op&A1"))
	require.False(t, v.Valid)
	require.Equal(t, signature.PossessionKnowledge, v.Factors)
	req := d.offline(signature.PossessionBiometry, "op&A1")
	req.Biometry = true
	v = d.verifyOffline(req)
	require.True(t, v.Valid)
	require.Equal(t, signature.PossessionBiometry, v.Factors)
	require.Equal(t, 5, v.RemainingAttempts)
	require.EqualValues(t, 2, w.row(alpha, d.id).Counter)
}

func TestPAOP05_OfflineCandidatesAreOneAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	req := d.offline(signature.PossessionKnowledge, "op&A1&11111111")
	req.Data = [][]byte{[]byte("op&A1&22222222"), []byte("op&A1&11111111")}
	require.True(t, d.verifyOffline(req).Valid, "the previous step")
	req = d.offline(signature.PossessionKnowledge, "op&A1&33333333")
	req.Data = [][]byte{[]byte("op&A1&22222222"), []byte("op&A1&11111111")}
	v := d.verifyOffline(req)
	require.False(t, v.Valid)
	require.Equal(t, 4, v.RemainingAttempts)
	require.Equal(t, 1, w.row(alpha, d.id).Failed)
}

func TestPAOP05_OfflineWrongFormsCountNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	before := w.row(alpha, d.id)
	good := d.offline(signature.PossessionKnowledge, "op&A1")
	for name, change := range map[string]func(*registration.OfflineRequest){
		"empty":          func(r *registration.OfflineRequest) { r.Signature = "" },
		"15 digits":      func(r *registration.OfflineRequest) { r.Signature = "123456789012345" },
		"17 digits":      func(r *registration.OfflineRequest) { r.Signature = "12345678901234567" },
		"spaces":         func(r *registration.OfflineRequest) { r.Signature = "1234 5678 1234 5678" },
		"5-3-8":          func(r *registration.OfflineRequest) { r.Signature = "12345-678-12345678" },
		"4-4-8":          func(r *registration.OfflineRequest) { r.Signature = "1234-5678-12345678" },
		"three groups":   func(r *registration.OfflineRequest) { r.Signature = "12345678-12345678-12345678" },
		"letters":        func(r *registration.OfflineRequest) { r.Signature = "12345678-1234567a" },
		"unicode digits": func(r *registration.OfflineRequest) { r.Signature = "１２３４５６７８" },
		"dash at end":    func(r *registration.OfflineRequest) { r.Signature += "-" },
		"nonce":          func(r *registration.OfflineRequest) { r.Nonce = r.Nonce[1:] },
		"no data":        func(r *registration.OfflineRequest) { r.Data = nil },
		"much data":      func(r *registration.OfflineRequest) { r.Data = make([][]byte, registration.MaxCandidates+1) },
		"no uri id":      func(r *registration.OfflineRequest) { r.URIID = "" },
		"id":             func(r *registration.OfflineRequest) { r.ID = "x" },
	} {
		req := good
		change(&req)
		_, err := w.node.VerifyOffline(t.Context(), alpha, req)
		require.ErrorIs(t, err, registration.ErrInvalid, name)
	}
	require.Equal(t, before, w.row(alpha, d.id))
	require.Empty(t, w.events(alpha, d.id, "registration.verify_offline"))
	require.True(t, d.verifyOffline(good).Valid)
}

func TestPAOP05_OfflineStrangersAndBlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.active(alpha, "petr")
	req := d.offline(signature.PossessionKnowledge, "op&A1")
	for name, c := range map[string]struct {
		tenant tenant.ID
		apps   []string
	}{"twin": {beta, mine}, "other app": {alpha, []string{"OTHER"}}, "no apps": {alpha, nil}} {
		r := req
		r.Apps = c.apps
		v, err := w.node.VerifyOffline(t.Context(), c.tenant, r)
		require.NoError(t, err, name)
		require.Equal(t, registration.Verdict{ID: d.id, Status: registration.StateRemoved, Factors: signature.PossessionKnowledge}, v, name)
	}
	require.True(t, d.verifyOffline(req).Valid)

	// Online and offline failures are one count, over two nodes.
	nodes := []*registration.Registrar{w.node, w.newNode(w.pool(), nil)}
	var (
		wg     sync.WaitGroup
		judged atomic.Int32
	)
	for i := range 20 {
		online, offline := d.wrong(signature.PossessionKnowledge), req
		wg.Go(func() {
			var v registration.Verdict
			var err error
			if i%2 == 0 {
				v, err = nodes[i/2%2].Verify(t.Context(), alpha, online)
			} else {
				v, err = nodes[i/2%2].VerifyOffline(t.Context(), alpha, offline)
			}
			require.NoError(t, err)
			require.False(t, v.Valid)
			if v.Judged {
				judged.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, registration.MaxFailedAttempts, judged.Load())
	require.Equal(t, registration.StateBlocked, w.row(alpha, d.id).State)
	v := d.verifyOffline(d.offline(signature.PossessionKnowledge, "op&A1"))
	require.Equal(t, registration.Verdict{ID: d.id, Status: registration.StateBlocked, Factors: signature.PossessionKnowledge}, v)
}

func FuzzOfflineDigits(f *testing.F) {
	for _, s := range []string{"1234567812345678", "12345678-12345678", "1234-5678-1234-5678", "", "-", "1234--5678-12345678", "１２３４"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := registration.OfflineDigits(s)
		if !ok {
			return
		}
		require.Regexp(t, `^\d{8}-\d{8}$`, got)
		require.Equal(t, strings.ReplaceAll(s, "-", ""), strings.ReplaceAll(got, "-", ""))
		_, err := signature.ParseOfflineSignature(got, 8)
		require.NoError(t, err)
	})
}
