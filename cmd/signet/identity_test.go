package main

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/internal/conf"
	"github.com/signet-hsm/signet/registration"
	"github.com/signet-hsm/signet/tenant"
)

// What stands in the file is whom the phones' identity attributes are shown to.
func TestCustomActivationIsConfigured(t *testing.T) {
	t.Parallel()
	bank := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"userId":"alice"}`)
	}))
	t.Cleanup(bank.Close)
	dir := t.TempDir()
	key := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(key, []byte("whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n"), 0o600))
	file := filepath.Join(dir, "signet.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`listen: {rest: 127.0.0.1:1, grpc: 127.0.0.1:2}
database: {url: "postgres:///signet"}
hsm: {module: module.so, token_label: t, pin: {file: pin}}
ca: {issuer_chain: chain.pem}
tenants: [{id: demo, issuer: https://idp.example, audience: signet, jwks_file: jwks.json}]
powerauth:
  custom_activation:
    endpoints: [{tenant: demo, app: bank, url: "`+bank.URL+`", secret: {file: "`+key+`"}, commit: true}]
    allow: [127.0.0.0/8]
    allow_http: true
    timeout: 2s
`), 0o600))
	cfg, err := conf.Load[Config](file)
	require.NoError(t, err)
	p := &process{cfg: cfg}
	provider, err := p.openIdentity(t.Context())
	require.NoError(t, err)
	t.Cleanup(provider.Close)
	user, err := provider.Resolve(t.Context(), registration.CustomActivation{Tenant: tenant.MustParse("demo"), App: "bank"})
	require.NoError(t, err)
	require.Equal(t, &registration.CustomUser{UserID: "alice", Commit: true}, user)

	p.cfg.PowerAuth.CustomActivation.AllowHTTP = false
	_, err = p.openIdentity(t.Context())
	require.ErrorContains(t, err, "https")
	none := &process{}
	provider, err = none.openIdentity(t.Context())
	require.NoError(t, err)
	require.Nil(t, (&domains{identity: provider}).activationProvider(), "nobody is not somebody")
}
