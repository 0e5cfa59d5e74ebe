package rest

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/signet-hsm/signet/access"
)

// Route is one operation.
type Route struct {
	ID      string     // inventory id, "CA-05": the name in metrics, logs and the contract test
	Method  string     // GET (which also serves HEAD), POST, PUT, PATCH or DELETE
	Pattern string     // path with {wildcards} as net/http.ServeMux knows them
	Allow   access.Set // one of these privileges is enough; never empty
	MaxBody int64      // bytes; 0: 64 KiB
	Handler Handler

	tenanted bool // its path names a tenant
}

// Handler serves a request whose caller is already known and allowed.
type Handler func(ctx context.Context, r *Request) (Response, error)

// Request is what a handler sees of a request.
type Request struct {
	ID        string           // of the request
	Principal access.Principal // zero on a Public route
	http      *http.Request
	body      []byte
	proxies   []netip.Prefix
	pass      access.Pass
}

// Path returns the value of a wildcard of the pattern.
func (r *Request) Path(name string) string { return r.http.PathValue(name) }

// Header returns the first value of a header.
func (r *Request) Header(name string) string { return r.http.Header.Get(name) }

// PeerCertificate returns the certificate whose private key the client has proven
// to hold in this connection's TLS handshake, nil without one. That is all that is
// known of it: not who signed it, nor whether it is valid.
func (r *Request) PeerCertificate() *x509.Certificate {
	if s := r.http.TLS; s != nil && s.HandshakeComplete && len(s.PeerCertificates) > 0 {
		return s.PeerCertificates[0]
	}
	return nil
}

// RawQuery returns the query as it was sent, for what was signed as such.
func (r *Request) RawQuery() string { return r.http.URL.RawQuery }

// Body returns the body as it was sent, for what was signed or encrypted as such.
func (r *Request) Body() []byte { return r.body }

// Response is what a handler answers. Body nil sends none; Raw is sent as it is;
// anything else as JSON.
type Response struct {
	Status int
	Header map[string]string
	Body   any
}

// Raw is a body that is not JSON.
type Raw struct {
	ContentType string
	Data        []byte
}

// OK answers 200.
func OK(body any) Response { return Response{Status: http.StatusOK, Body: body} }

// JSON answers 200 with a body that was encoded already.
func JSON(encoded []byte) Response {
	return Response{Status: http.StatusOK, Body: Raw{ContentType: "application/json", Data: encoded}}
}

// Created answers 201 and names the new object.
func Created(location string, body any) Response {
	return Response{Status: http.StatusCreated, Header: map[string]string{"Location": location}, Body: body}
}

// tenantWildcards are the path names that the guard compares with the caller's
// tenant.
var tenantWildcards = []string{"tenant", "tenantId"}

var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

func (r Route) validate() error {
	switch {
	case r.ID == "":
		return fmt.Errorf("route %s %s has no id", r.Method, r.Pattern)
	case !slices.Contains(methods, r.Method):
		return fmt.Errorf("route %s: method %q", r.ID, r.Method)
	case !strings.HasPrefix(r.Pattern, "/") || strings.HasSuffix(r.Pattern, "/"):
		return fmt.Errorf("route %s: pattern %q", r.ID, r.Pattern)
	case r.Allow == 0:
		return fmt.Errorf("route %s names no privilege", r.ID)
	case r.Allow.Has(access.Public) && r.Allow != access.Any(access.Public):
		return fmt.Errorf("route %s is public and guarded at once", r.ID)
	case r.Handler == nil:
		return fmt.Errorf("route %s has no handler", r.ID)
	}
	return nil
}
