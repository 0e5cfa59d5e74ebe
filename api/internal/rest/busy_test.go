package rest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/access"
	"github.com/signet-hsm/signet/api/internal/rest"
)

// What a credential has at work is bounded; a panic gives its place back as well.
func TestCallsOfACredentialAreBounded(t *testing.T) {
	t.Parallel()
	limiter, err := access.NewLimiter(access.LimiterConfig{PerCredential: 1})
	require.NoError(t, err)
	began, release := make(chan struct{}), make(chan struct{})
	d := dialect()
	problem := d.Problem
	d.Problem = func(err error, id string) rest.Response {
		resp := problem(err, id)
		if resp.Status == 0 {
			resp.Status = http.StatusTooManyRequests
		}
		return resp
	}
	allow := access.Any(access.AdminRead, access.AdminWrite)
	api, err := rest.New(rest.Config{Dialect: d, Limiter: limiter, Routes: []rest.Route{
		{ID: "T-1", Method: "GET", Pattern: "/wait", Allow: allow, Handler: func(context.Context, *rest.Request) (rest.Response, error) {
			began <- struct{}{}
			<-release
			return rest.OK(nil), nil
		}},
		{ID: "T-2", Method: "GET", Pattern: "/panic", Allow: allow, Handler: func(context.Context, *rest.Request) (rest.Response, error) { panic("x") }},
		{ID: "T-3", Method: "GET", Pattern: "/open", Allow: access.Any(access.Public), Handler: ok},
	}})
	require.NoError(t, err)
	mux := http.NewServeMux()
	api.Mount(mux)
	get := func(path, token string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		mux.ServeHTTP(rec, r)
		return rec
	}
	done := make(chan int)
	go func() { done <- get("/wait", "reader").Code }()
	<-began
	refused := get("/panic", "reader")
	require.Equal(t, http.StatusTooManyRequests, refused.Code)
	require.Contains(t, refused.Body.String(), "TOO_MANY_CALLS")
	require.Equal(t, "2", refused.Header().Get("Retry-After"))
	require.Equal(t, 500, get("/panic", "writer").Code, "another credential has a bound of its own")
	require.Equal(t, 500, get("/panic", "writer").Code, "a panic gave its place back")
	require.Equal(t, 200, get("/open", "reader").Code)
	release <- struct{}{}
	require.Equal(t, 200, <-done)
	require.Equal(t, 500, get("/panic", "reader").Code)
}
