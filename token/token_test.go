package token_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/fault"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
	"github.com/signet-hsm/signet/token"
	"github.com/signet-hsm/signet/token/tokentest"
)

func TestPAAUTH02_EveryVersion(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	for _, v := range []signature.Version{signature.V30, signature.V31, signature.V32, signature.V33} {
		p := activate(t, in, alpha, "user-"+v.String(), v)
		h := p.header()
		h.TokenID = strings.ToUpper(h.TokenID)
		require.Equal(t, token.Verdict{
			Valid: true, Judged: true, RegistrationID: p.ActivationID(), Status: registration.StateActive, Factors: pk,
			UserID: "user-" + v.String(), App: "APP", Roles: []string{"ROLE"}, Flags: []string{"FLAG"},
		}, p.verify(h), v)
		again := p.verify(h)
		require.False(t, again.Valid, "once")
		require.True(t, again.Judged)
		require.True(t, p.verify(p.header()).Valid)
		require.Equal(t, map[string]int{"token_ok": 2, "token_replayed": 1}, p.outcomes())
		require.Equal(t, map[string]any{"token": p.token.ID, "version": v.String()}, p.events("token.verify")[0].Detail)
		require.Len(t, p.events("token.create"), 1)
	}
}

// The header is made once and sent five hundred times to two nodes at once.
func TestPAAUTH02_OneHeaderOverTwoNodesIsAcceptedOnce(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	p := activate(t, in, alpha, "petr", signature.V33)
	nodes := []tokentest.Node{in.Node, in.NewNode(in.Pool())}
	req := p.request(p.header())
	var (
		wg    sync.WaitGroup
		valid atomic.Int32
		gate  = make(chan struct{})
	)
	for i := range 500 {
		wg.Go(func() {
			<-gate
			v, err := nodes[i%2].Tokens.Verify(t.Context(), alpha, req)
			require.NoError(t, err)
			require.True(t, v.Judged)
			if v.Valid {
				valid.Add(1)
			}
		})
	}
	close(gate)
	wg.Wait()
	require.EqualValues(t, 1, valid.Load())
	require.Equal(t, map[string]int{"token_ok": 1, "token_replayed": 499}, p.outcomes())
	require.Equal(t, 1, count(t, in, "token_nonce"))
}

// Many headers at once are each accepted: no row is contended for.
func TestPAAUTH02_DifferentHeadersAtOnce(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	p := activate(t, in, alpha, "petr", signature.V33)
	nodes := []tokentest.Node{in.Node, in.NewNode(in.Pool())}
	var wg sync.WaitGroup
	for i := range 100 {
		req := p.request(p.header())
		wg.Go(func() {
			v, err := nodes[i%2].Tokens.Verify(t.Context(), alpha, req)
			require.NoError(t, err)
			require.True(t, v.Valid)
		})
	}
	wg.Wait()
	require.Equal(t, 100, count(t, in, "token_nonce"))
}

// The window of its version, and no moment in it at which the nonce is forgotten.
func TestPAAUTH02_WindowAndReplayWithinIt(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	for v, window := range map[signature.Version]time.Duration{
		signature.V30: token.WindowOld, signature.V31: token.WindowOld, signature.V32: token.Window, signature.V33: token.Window,
	} {
		in.Turn(0)
		p := activate(t, in, alpha, "user-"+v.String(), v)
		used, old, future := p.header(), p.header(), p.header()
		require.True(t, p.verify(used).Valid)
		in.Turn(window - 5*time.Second)
		more, err := in.Tokens.Sweep(t.Context())
		require.NoError(t, err)
		require.False(t, more)
		require.False(t, p.verify(used).Valid, "%s: a replay at the end of the window", v)
		require.True(t, p.verify(p.header()).Valid, v)
		in.Turn(window + 5*time.Second)
		verdict := p.verify(old)
		require.False(t, verdict.Valid, "%s: too old", v)
		require.True(t, verdict.Judged)
		require.Equal(t, registration.StateActive, verdict.Status)
		in.Turn(-window - 5*time.Second)
		require.False(t, p.verify(future).Valid, "%s: from the future", v)
		require.Equal(t, map[string]int{"token_ok": 2, "token_replayed": 1, "token_timestamp_invalid": 2}, p.outcomes(), v)
	}
	in.Turn(2*token.WindowOld + 5*time.Minute)
	_, err := in.Tokens.Sweep(t.Context())
	require.NoError(t, err)
	require.Zero(t, count(t, in, "token_nonce"))
}

// Nobody without the secret learns anything or writes a nonce.
func TestPAAUTH02_StrangersAreUniform(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	p, twin := activate(t, in, alpha, "petr", signature.V33), activate(t, in, beta, "petr", signature.V33)
	for name, c := range map[string]struct {
		tenant tenant.ID
		change func(*token.VerifyRequest)
	}{
		"unknown":   {alpha, func(r *token.VerifyRequest) { r.Header.TokenID = "8819ac31-ad29-40d1-ac60-1b54293abe61" }},
		"no UUID":   {alpha, func(r *token.VerifyRequest) { r.Header.TokenID = "x" }},
		"other app": {alpha, func(r *token.VerifyRequest) { r.Apps = []string{"OTHER"} }},
		"no apps":   {alpha, func(r *token.VerifyRequest) { r.Apps = nil }},
		"twin":      {alpha, func(r *token.VerifyRequest) { r.Header = twin.header() }},
	} {
		req := p.request(p.header())
		c.change(&req)
		v, err := in.Tokens.Verify(t.Context(), c.tenant, req)
		require.NoError(t, err, name)
		require.Equal(t, token.Verdict{}, v, name)
	}
	require.Empty(t, p.outcomes(), "nothing is written")
	for name, change := range map[string]func(h *signature.TokenHeader){
		"digest":    func(h *signature.TokenHeader) { h.Digest[0] ^= 1 },
		"nonce":     func(h *signature.TokenHeader) { h.Nonce[0] ^= 1 },
		"timestamp": func(h *signature.TokenHeader) { h.Timestamp++ },
		"version":   func(h *signature.TokenHeader) { h.Version = signature.V32 },
	} {
		h := p.header()
		change(&h)
		require.Equal(t, token.Verdict{}, p.verify(h), name)
	}
	require.Equal(t, map[string]int{"token_digest_does_not_match": 4}, p.outcomes())
	require.Zero(t, count(t, in, "token_nonce"))
}

// 3.0 and 3.1 do not sign the version: going over to the other is a replay still.
func TestPAAUTH02_VersionsWithoutTheirVersion(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	p := activate(t, in, alpha, "petr", signature.V30)
	h := p.header()
	require.True(t, p.verify(h).Valid)
	h.Version = signature.V31
	require.False(t, p.verify(h).Valid)
	h.Version = signature.V33
	require.Equal(t, token.Verdict{}, p.verify(h))
}

func TestPAAUTH02_OnlyWhileActive(t *testing.T) {
	t.Parallel()
	ctx, in := t.Context(), tokentest.New(t)
	p := activate(t, in, alpha, "petr", signature.V33)
	require.True(t, p.verify(p.header()).Valid)
	change := func(c registration.Change) {
		require.NoError(t, in.NewNode(in.DB).Registrations.Change(ctx, alpha, registration.ChangeParams{Apps: mine, ID: p.ActivationID(), Change: c}))
	}
	change(registration.Block) // by another node: seen at once
	h := p.header()
	v := p.verify(h)
	require.False(t, v.Valid)
	require.Equal(t, []any{registration.StateBlocked, "petr", p.ActivationID()}, []any{v.Status, v.UserID, v.RegistrationID})
	change(registration.Unblock)
	require.True(t, p.verify(h).Valid, "the nonce was not spent")
	require.NoError(t, in.Registrations.SetFlags(ctx, alpha, registration.FlagParams{Apps: mine, ID: p.ActivationID(), Flags: []string{"NEW"}}))
	require.Equal(t, []string{"NEW"}, p.verify(p.header()).Flags)
	change(registration.Remove)
	require.Equal(t, registration.StateRemoved, p.verify(p.header()).Status)
	require.Equal(t, map[string]int{"token_ok": 3, "activation_invalid_state": 2}, p.outcomes())
}

func TestTokenRemove(t *testing.T) {
	t.Parallel()
	ctx, in := t.Context(), tokentest.New(t)
	p, other := activate(t, in, alpha, "petr", signature.V33), activate(t, in, alpha, "jana", signature.V32)
	second := in.NewNode(in.Pool())
	v, err := second.Tokens.Verify(ctx, alpha, p.request(p.header()))
	require.NoError(t, err)
	require.True(t, v.Valid, "and the other node has it in its cache now")
	require.NoError(t, other.RemoveToken(ctx, p.token, p1), "nothing is told")
	require.True(t, p.verify(p.header()).Valid, "and nothing was done")
	require.NoError(t, p.RemoveToken(ctx, p.token, p1))
	require.Equal(t, token.Verdict{}, p.verify(p.header()))
	v, err = second.Tokens.Verify(ctx, alpha, p.request(p.header()))
	require.NoError(t, err)
	require.Equal(t, token.Verdict{}, v)
	require.Len(t, p.events("token.remove"), 1)
	require.NoError(t, p.RemoveToken(ctx, p.token, pk), "a second time")
	require.Len(t, p.events("token.remove"), 1)

	for name, body := range map[string]string{
		"not JSON": "{", "no object": "{}", "no UUID": `{"requestObject":{"tokenId":"x"}}`,
		"repeated": `{"requestObject":{"tokenId":"` + p.token.ID + `","tokenId":"` + p.token.ID + `"}}`,
	} {
		_, err := in.Tokens.Remove(ctx, registration.SignedRequest{Body: []byte(body)})
		require.ErrorIs(t, err, registration.ErrRequest, name)
	}
	_, err = in.Tokens.Remove(ctx, registration.SignedRequest{
		Header: signature.Header{ActivationID: p.ActivationID(), ApplicationKey: in.Versions[alpha].Key, Factors: pk, Version: signature.V33},
		Body:   []byte(`{"requestObject":{"tokenId":"` + p.token.ID + `"}}`),
	})
	require.ErrorIs(t, err, registration.ErrSignature)
}

func TestTokenCreateRefusals(t *testing.T) {
	t.Parallel()
	ctx, in := t.Context(), tokentest.New(t)
	p := activate(t, in, alpha, "petr", signature.V32)
	before := count(t, in, "token")
	header, err := p.Sign("POST", token.URICreate, []byte("{}"), pk)
	require.NoError(t, err)
	h, err := signature.ParseHeader(header)
	require.NoError(t, err)
	_, err = in.Tokens.Create(ctx, registration.SignedRequest{Header: h, Body: []byte("{}")})
	require.ErrorIs(t, err, registration.ErrRequest, "signed, but not encrypted")
	_, err = in.Tokens.Create(ctx, registration.SignedRequest{Header: h, Body: []byte("{}")})
	require.ErrorIs(t, err, registration.ErrSignature, "again")
	h.Factors = signature.Knowledge
	_, err = in.Tokens.Create(ctx, registration.SignedRequest{Header: h, Body: []byte("{}")})
	require.ErrorIs(t, err, registration.ErrSignatureType)
	require.NoError(t, in.Registrations.Change(ctx, alpha, registration.ChangeParams{Apps: mine, ID: p.ActivationID(), Change: registration.Block}))
	_, err = p.CreateToken(ctx, pk)
	var refused *powerauth.ServerError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "POWER_AUTH_SIGNATURE_INVALID", refused.Code)
	require.Equal(t, before, count(t, in, "token"))
}

// At rest the secret is sealed for its token and registration, and no log or
// audit event has it.
func TestTokenSecretIsSealed(t *testing.T) {
	t.Parallel()
	ctx, in := t.Context(), tokentest.New(t)
	p, other := activate(t, in, alpha, "petr", signature.V33), activate(t, in, alpha, "jana", signature.V33)
	raw, err := signature.ParseBase64(p.token.Secret)
	require.NoError(t, err)
	var sealed []byte
	require.NoError(t, in.DB.QueryRow(ctx, `select secret_sealed from token where id = $1`, p.token.ID).Scan(&sealed))
	require.NotContains(t, string(sealed), string(raw))
	p.verify(p.header())
	text, err := json.Marshal([]any{p.events("token.create"), p.events("token.verify")})
	require.NoError(t, err)
	require.NotContains(t, string(text), p.token.Secret)
	_, err = in.DB.Exec(ctx, `update token set registration_id = $1 where id = $2`, other.ActivationID(), p.token.ID)
	require.NoError(t, err)
	_, err = in.NewNode(in.DB).Tokens.Verify(ctx, alpha, p.request(p.header()))
	require.Equal(t, fault.Internal, fault.KindOf(err), "moved to another registration")
}

func TestPAAUTH02_AnOutageIsNoVerdict(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	p := activate(t, in, alpha, "petr", signature.V33)
	require.True(t, p.verify(p.header()).Valid)
	h := p.header()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, node := range map[string]tokentest.Node{"warm": in.Node, "cold": in.NewNode(in.Pool())} {
		v, err := node.Tokens.Verify(over, alpha, p.request(h))
		require.ErrorIs(t, err, fault.ErrUnavailable, name)
		require.Equal(t, token.Verdict{}, v, name)
	}
	require.NoError(t, in.HSM.Destroy(t.Context(), in.KEK)) // a warm node needs no HSM
	require.True(t, p.verify(h).Valid)
	v, err := in.NewNode(in.Pool()).Tokens.Verify(t.Context(), alpha, p.request(p.header()))
	require.Error(t, err)
	require.Equal(t, token.Verdict{}, v)
}

func TestConfigAndRun(t *testing.T) {
	t.Parallel()
	_, err := token.New(token.Config{})
	require.Error(t, err)
	in := tokentest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- in.Tokens.Run(ctx) }()
	cancel()
	require.NoError(t, <-done)
	registry := prometheus.NewRegistry()
	c := token.Config{
		DB: in.DB, Registrations: in.Registrations, Audit: in.Audit, Metrics: registry,
	}
	require.ErrorContains(t, c.Validate(), "required")
}

func TestAnErasedTenantsTokensAreForgotten(t *testing.T) {
	t.Parallel()
	in := tokentest.New(t)
	gone, other := activate(t, in, alpha, "user", signature.V33), activate(t, in, beta, "user", signature.V33)
	require.True(t, gone.verify(gone.header()).Valid)
	require.True(t, other.verify(other.header()).Valid)
	require.Equal(t, []int{1, 1}, []int{token.Held(in.Tokens, alpha), token.Held(in.Tokens, beta)})
	in.Tokens.Forget(alpha)
	require.Equal(t, []int{0, 1}, []int{token.Held(in.Tokens, alpha), token.Held(in.Tokens, beta)})
	require.True(t, gone.verify(gone.header()).Valid, "its secret is opened anew, while it can be")
}
