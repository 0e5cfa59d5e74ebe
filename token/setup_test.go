package token_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/audit"
	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/internal/pg/pgtest"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/signature"
	"github.com/signet-hsm/signet/tenant"
	"github.com/signet-hsm/signet/token"
	"github.com/signet-hsm/signet/token/tokentest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	alpha, beta = pgtest.Alpha, pgtest.Beta
	mine        = []string{"APP"}
)

const (
	pk = signature.PossessionKnowledge
	p1 = signature.Possession
)

// phone is an ACTIVE device with a token.
type phone struct {
	*powerauth.Device
	in     *tokentest.Installation
	tb     testing.TB
	tenant tenant.ID
	token  powerauth.Token
}

func activate(tb testing.TB, in *tokentest.Installation, t tenant.ID, user string, v signature.Version) *phone {
	tb.Helper()
	ctx := tb.Context()
	version := in.Versions[t]
	d, err := powerauth.New(powerauth.Config{
		BaseURL: in.URL, HTTP: in.Client, Now: in.Now, Version: v,
		ApplicationKey: signature.EncodeBase64(version.Key[:]), ApplicationSecret: string(version.Secret.Reveal()),
		MasterPublicKey: signature.EncodeBase64(in.Masters[t]),
	})
	require.NoError(tb, err)
	c, err := in.Registrations.Create(ctx, t, registration.CreateParams{Apps: mine, App: "APP", UserID: user, Flags: []string{"FLAG"}})
	require.NoError(tb, err)
	require.NoError(tb, d.Activate(ctx, c.QRCodeData, powerauth.ActivateOptions{}))
	require.NoError(tb, in.Registrations.Commit(ctx, t, registration.CommitParams{Apps: mine, ID: c.ID}))
	p := &phone{Device: d, in: in, tb: tb, tenant: t}
	p.token, err = d.CreateToken(ctx, pk)
	require.NoError(tb, err)
	return p
}

// header is a fresh one.
func (p *phone) header() signature.TokenHeader {
	p.tb.Helper()
	text, err := p.TokenHeader(p.token)
	require.NoError(p.tb, err)
	h, err := signature.ParseTokenHeader(text)
	require.NoError(p.tb, err)
	return h
}

func (p *phone) request(h signature.TokenHeader) token.VerifyRequest {
	return token.VerifyRequest{Apps: mine, Header: h, Actor: "backend"}
}

func (p *phone) verify(h signature.TokenHeader) token.Verdict {
	p.tb.Helper()
	v, err := p.in.Tokens.Verify(p.tb.Context(), p.tenant, p.request(h))
	require.NoError(p.tb, err)
	return v
}

// events lists the audit log of the registration, oldest first.
func (p *phone) events(action string) (out []audit.Event) {
	p.tb.Helper()
	page, err := p.in.Audit.List(p.tb.Context(), p.tenant, audit.Filter{Limit: audit.MaxLimit})
	require.NoError(p.tb, err)
	for _, e := range page {
		if e.Subject == p.ActivationID() && e.Action == action {
			out = append([]audit.Event{e}, out...)
		}
	}
	return out
}

func (p *phone) outcomes() map[string]int {
	n := map[string]int{}
	for _, e := range p.events("token.verify") {
		n[e.Outcome]++
	}
	return n
}

func count(tb testing.TB, in *tokentest.Installation, table string) (n int) {
	tb.Helper()
	require.NoError(tb, in.DB.QueryRow(tb.Context(), `select count(*) from `+table).Scan(&n))
	return n
}
