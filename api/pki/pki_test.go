package pki_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"github.com/signet-hsm/signet/api/pki"
	"github.com/signet-hsm/signet/ca/revocation"
	"github.com/signet-hsm/signet/fault"
)

// fakeSource answers everything with one document or error.
type fakeSource struct {
	doc     revocation.Document
	err     error
	shard   int
	request []byte
}

func (s *fakeSource) CRL(_ context.Context, _ revocation.KeyID, shard int) (revocation.Document, error) {
	s.shard = shard
	return s.doc, s.err
}

func (s *fakeSource) OCSP(_ context.Context, _ revocation.KeyID, request []byte) (revocation.Document, error) {
	s.request = request
	return s.doc, s.err
}

func (s *fakeSource) IssuerCertificate(context.Context, revocation.KeyID) (revocation.Document, error) {
	return s.doc, s.err
}

func (s *fakeSource) CRLSigner(context.Context, revocation.KeyID) (revocation.Document, error) {
	return s.doc, s.err
}

var (
	at     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	issuer = revocation.KeyID{0xab}.String()
	// The base64 of this request has '/', '+', "//" and padding.
	request = append([]byte{0x30}, bytes.Repeat([]byte{0xfb, 0xff, 0xfe, 0xff, 0xff}, 5)...)
)

func serve(t *testing.T, change func(*pki.Config)) (*fakeSource, func(method, target string, body []byte, header ...string) *http.Response) {
	t.Helper()
	s := &fakeSource{doc: revocation.Document{DER: []byte("signed"), ThisUpdate: at, NextUpdate: at.Add(time.Hour), Tag: "0123"}}
	c := pki.Config{Source: s, Now: func() time.Time { return at.Add(time.Minute) }}
	if change != nil {
		change(&c)
	}
	h, err := pki.New(c)
	require.NoError(t, err)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return s, func(method, target string, body []byte, header ...string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+target, bytes.NewReader(body))
		require.NoError(t, err)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := server.Client().Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(b)
}

func TestDocumentsAndTheirCaching(t *testing.T) {
	t.Parallel()
	s, do := serve(t, nil)
	encoded := url.PathEscape(base64.StdEncoding.EncodeToString(request))
	for target, contentType := range map[string]string{
		"/crl/" + issuer + "/7.crl":       "application/pkix-crl",
		"/ca/" + issuer + ".cer":          "application/pkix-cert",
		"/ca/" + issuer + "/crl.cer":      "application/pkix-cert",
		"/ocsp/" + issuer + "/" + encoded: "application/ocsp-response",
	} {
		r := do(http.MethodGet, target, nil)
		require.Equal(t, 200, r.StatusCode, target)
		require.Equal(t, "signed", body(t, r))
		require.Equal(t, contentType, r.Header.Get("Content-Type"))
		require.Equal(t, "public, max-age=3540, no-transform, must-revalidate", r.Header.Get("Cache-Control"))
		require.Equal(t, "Sun, 01 Mar 2026 13:00:00 GMT", r.Header.Get("Expires"))
		require.Equal(t, "Sun, 01 Mar 2026 12:00:00 GMT", r.Header.Get("Last-Modified"))
		require.Equal(t, `"0123"`, r.Header.Get("ETag"))

		r = do(http.MethodHead, target, nil)
		require.Equal(t, 200, r.StatusCode)
		require.EqualValues(t, 6, r.ContentLength)
		require.Empty(t, body(t, r))
		r = do(http.MethodGet, target, nil, "If-None-Match", `"0123"`)
		require.Equal(t, 304, r.StatusCode)
		require.NotEmpty(t, r.Header.Get("Cache-Control"))
		require.Equal(t, 200, do(http.MethodGet, target, nil, "If-None-Match", `"4567"`).StatusCode)
		// A time says nothing: another document may be of the same second.
		for _, since := range []time.Time{at, at.Add(time.Hour)} {
			r = do(http.MethodGet, target, nil, "If-Modified-Since", since.Format(http.TimeFormat))
			require.Equal(t, 200, r.StatusCode)
			require.Equal(t, "signed", body(t, r))
		}
		require.Equal(t, 200, do(http.MethodGet, target, nil, "Range", "bytes=2-", "If-Range", at.Format(http.TimeFormat)).StatusCode)
		require.Equal(t, 206, do(http.MethodGet, target, nil, "Range", "bytes=2-", "If-Range", `"0123"`).StatusCode)
	}
	require.Equal(t, 7, s.shard)
	r := do(http.MethodPost, "/ocsp/"+issuer, request, "If-None-Match", `"0123"`)
	require.Equal(t, 200, r.StatusCode)
	require.Equal(t, "signed", body(t, r))
	require.Equal(t, request, s.request)
	require.Equal(t, `"0123"`, r.Header.Get("ETag"))

	_, do = serve(t, func(c *pki.Config) { c.MaxAge = 5 * time.Minute })
	r = do(http.MethodGet, "/crl/"+issuer+"/0.crl", nil)
	require.Contains(t, r.Header.Get("Cache-Control"), "max-age=300,")
	require.Equal(t, "Sun, 01 Mar 2026 12:06:00 GMT", r.Header.Get("Expires"))
}

func TestOCSPRequestsInURLs(t *testing.T) {
	t.Parallel()
	s, do := serve(t, nil)
	std := base64.StdEncoding.EncodeToString(request)
	require.Contains(t, std, "//")
	require.Contains(t, std, "+")
	require.Contains(t, std, "=")
	for name, form := range map[string]string{
		"escaped":       url.QueryEscape(std),
		"path escaped":  url.PathEscape(std),
		"bare":          std,
		"no padding":    strings.TrimRight(std, "="),
		"plus as blank": strings.ReplaceAll(url.PathEscape(std), "+", "%20"),
		"URL alphabet":  base64.URLEncoding.EncodeToString(request),
		"lower-case":    strings.NewReplacer("+", "%2b", "/", "%2f", "=", "%3d").Replace(std),
	} {
		s.request = nil
		r := do(http.MethodGet, "/ocsp/"+issuer+"/"+form, nil)
		require.Equal(t, 200, r.StatusCode, name)
		require.Equal(t, "signed", body(t, r), name)
		require.Equal(t, request, s.request, name)
	}
	for name, target := range map[string]string{
		"none": "/ocsp/" + issuer, "empty": "/ocsp/" + issuer + "/", "no base64": "/ocsp/" + issuer + "/a*b", "stray bits": "/ocsp/" + issuer + "/MB",
	} {
		r := do(http.MethodGet, target, nil)
		require.Equal(t, 200, r.StatusCode, name)
		require.Equal(t, string(ocsp.MalformedRequestErrorResponse), body(t, r), name)
		require.Equal(t, "no-store", r.Header.Get("Cache-Control"), name)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s, do := serve(t, func(c *pki.Config) { c.Metrics = reg })
	crl, post := "/crl/"+issuer+"/0.crl", "/ocsp/"+issuer
	for name, c := range map[string]struct {
		err     error
		code    int
		ocsp    int
		answer  []byte
		retries bool
	}{
		"unknown":   {revocation.ErrNoIssuer, 404, 200, ocsp.UnauthorizedErrorResponse, false},
		"no serial": {revocation.ErrUnknownCertificate, 404, 200, ocsp.UnauthorizedErrorResponse, false},
		"stale":     {revocation.ErrNotPublished, 503, 503, ocsp.TryLaterErrorResponse, true},
		"busy":      {revocation.ErrBusy, 503, 503, ocsp.TryLaterErrorResponse, true},
		"outage":    {fault.ErrUnavailable, 503, 503, ocsp.TryLaterErrorResponse, true},
		"defect":    {errors.New("secret detail"), 500, 500, ocsp.InternalErrorErrorResponse, false},
		"check":     {revocation.ErrCheck, 500, 500, ocsp.InternalErrorErrorResponse, false},
		"malformed": {revocation.ErrMalformed, 500, 200, ocsp.MalformedRequestErrorResponse, false},
	} {
		s.err = c.err
		for _, target := range []string{crl, "/ca/" + issuer + ".cer"} {
			r := do(http.MethodGet, target, nil)
			require.Equal(t, c.code, r.StatusCode, name)
			require.Empty(t, body(t, r), name)
			require.Equal(t, "no-store", r.Header.Get("Cache-Control"), name)
			require.Equal(t, c.retries, r.Header.Get("Retry-After") != "", name)
		}
		r := do(http.MethodPost, post, request)
		require.Equal(t, c.ocsp, r.StatusCode, name)
		require.Equal(t, string(c.answer), body(t, r), name)
		require.Equal(t, "application/ocsp-response", r.Header.Get("Content-Type"), name)
		require.Equal(t, "no-store", r.Header.Get("Cache-Control"), name)
		require.Equal(t, c.retries, r.Header.Get("Retry-After") != "", name)
	}
	require.InDelta(t, 3, testutil.ToFloat64(counter(t, reg, "crl", "503")), 0)
}

func counter(t *testing.T, reg *prometheus.Registry, what, code string) prometheus.Collector {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "found"})
	for _, f := range families {
		for _, m := range f.GetMetric() {
			l := m.GetLabel()
			if len(l) == 2 && l[0].GetValue() == code && l[1].GetValue() == what {
				g.Set(m.GetCounter().GetValue())
			}
		}
	}
	return g
}

func TestLimitsAndMethods(t *testing.T) {
	t.Parallel()
	_, do := serve(t, nil)
	require.Equal(t, 413, do(http.MethodPost, "/ocsp/"+issuer, make([]byte, 9<<10)).StatusCode)
	require.Equal(t, 414, do(http.MethodGet, "/ocsp/"+issuer+"/"+strings.Repeat("A", 3000), nil).StatusCode)
	for _, target := range []string{"/crl/" + issuer + "/0.crl", "/ca/" + issuer + ".cer"} {
		for _, m := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
			r := do(m, target, nil)
			require.Equal(t, 405, r.StatusCode)
			require.Equal(t, "GET, HEAD", r.Header.Get("Allow"))
		}
	}
	require.Equal(t, 405, do(http.MethodPut, "/ocsp/"+issuer, nil).StatusCode)
	for _, target := range []string{
		"/", "/crl", "/crl/", "/crl/" + issuer, "/crl/" + issuer + "/0", "/crl/" + issuer + "/00.crl", "/crl/" + issuer + "/-1.crl",
		"/crl/" + issuer + "/+1.crl", "/crl/" + issuer + "/1024.crl", "/crl/" + strings.ToUpper(issuer) + "/0.crl", "/crl/" + issuer[1:] + "/0.crl",
		"/crl/" + issuer + "/0.crl/x", "/crl/../crl/" + issuer + "/0.crl", "/ca/" + issuer, "/ca/x.cer", "/ca/" + issuer + ".cer/x",
	} {
		require.Equal(t, 404, do(http.MethodGet, target, nil).StatusCode, target)
	}
	r := do(http.MethodPost, "/ocsp/unknown", request)
	require.Equal(t, string(ocsp.UnauthorizedErrorResponse), body(t, r))
	_, err := pki.New(pki.Config{})
	require.Error(t, err)
}

// Nothing of the APIs, of health or of metrics is behind this listener.
func TestTheListenerIsApart(t *testing.T) {
	t.Parallel()
	_, do := serve(t, nil)
	for _, target := range []string{
		"/v2/registrations", "/v2/operations", "/pa/v3/activation/create", "/api/auth/token/app/operation/list", "/rest/alpha/v2/signers",
		"/alpha/v2/signers", "/metrics", "/healthz", "/livez", "/readyz", "/debug/pprof/", "/signet.v1.SignerService/CreateSigner",
	} {
		for _, m := range []string{http.MethodGet, http.MethodPost} {
			r := do(m, target, []byte("{}"), "Authorization", "Bearer x", "Content-Type", "application/json")
			require.Equal(t, 404, r.StatusCode, target)
			require.Empty(t, body(t, r))
			require.Empty(t, r.Header.Get("WWW-Authenticate"))
		}
	}
}

func FuzzPath(f *testing.F) {
	f.Add("/crl/" + issuer + "/0.crl")
	f.Add("/ocsp/" + issuer + "/MAA=")
	f.Add("/ca/" + issuer + ".cer")
	f.Add("/ocsp//%zz")
	h, err := pki.New(pki.Config{Source: &fakeSource{err: revocation.ErrNoIssuer}})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}})
		require.Contains(t, []int{200, 404, 414}, w.Code)
	})
}
