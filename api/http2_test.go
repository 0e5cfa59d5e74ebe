package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/api"
)

// HTTP/2 is agreed over TLS by itself, and spoken without TLS only when that was
// asked for; HTTP/1.1 is always there.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	certified := httptest.NewTLSServer(http.NotFoundHandler())
	defer certified.Close()
	pool := x509.NewCertPool()
	pool.AddCert(certified.Certificate())
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Proto)) })

	// proto is the protocol that a client gets which has these.
	proto := func(c api.ServerConfig, scheme string, set func(*http.Protocols)) string {
		c.Handler = handler
		s, err := api.NewServer(c)
		require.NoError(t, err)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		go func() {
			if c.TLS != nil {
				_ = s.ServeTLS(l, "", "")
			} else {
				_ = s.Serve(l)
			}
		}()
		defer func() { _ = s.Close() }()
		transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
		set(transport.Protocols)
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get(scheme + "://" + l.Addr().String())
		if err != nil {
			return "none"
		}
		require.NoError(t, resp.Body.Close())
		return resp.Proto
	}
	one := func(p *http.Protocols) { p.SetHTTP1(true) }
	two := func(p *http.Protocols) { p.SetHTTP2(true) }
	clear := func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }
	secured := api.ServerConfig{TLS: &tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS12}}
	require.Equal(t, "HTTP/2.0", proto(secured, "https", two))
	require.Equal(t, "HTTP/1.1", proto(secured, "https", one))
	require.Equal(t, "HTTP/2.0", proto(api.ServerConfig{H2C: true}, "http", clear))
	require.Equal(t, "HTTP/1.1", proto(api.ServerConfig{H2C: true}, "http", one))
	require.Equal(t, "none", proto(api.ServerConfig{}, "http", clear))

	secured.Handler, secured.H2C = handler, true
	_, err := api.NewServer(secured)
	require.ErrorContains(t, err, "h2c")
}
