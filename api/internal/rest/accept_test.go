package rest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func prefers(headers ...string) string {
	hr := httptest.NewRequest(http.MethodGet, "/", nil)
	hr.Header["Accept"] = headers
	return (&Request{http: hr}).Prefers("application/json", "image/png", "image/svg+xml")
}

func TestPrefers(t *testing.T) {
	t.Parallel()
	const (
		text = "application/json"
		png  = "image/png"
		svg  = "image/svg+xml"
	)
	for header, want := range map[string]string{
		"":                                  text,
		"*/*":                               text,
		"image/png":                         png,
		"image/svg+xml":                     svg,
		"IMAGE/PNG":                         png,
		"image/*":                           png,
		"image/svg+xml, */*":                svg,
		"application/json, image/png":       text,
		"application/json;q=0.5, image/png": png,
		"image/png;q=0":                     text,
		"image/png;q=0, image/*":            svg,
		"image/png;q=2":                     text,
		"image/png;q=NaN":                   text,
		"text/html":                         text,
		"image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5": png,
		"text/html,application/xhtml+xml,*/*;q=0.8":                             text,
		"/,;q,image/svg+xml": svg,
	} {
		require.Equal(t, want, prefers(header), header)
	}
	require.Equal(t, svg, prefers("text/html", "image/svg+xml"), "two headers are one list")
	require.Equal(t, text, prefers())
}

func FuzzPrefers(f *testing.F) {
	for _, s := range []string{"image/png;q=0.1, */*", ",,;", `image/png;q="1,2"`, "image/*;q=1e309"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		require.Contains(t, []string{"application/json", "image/png", "image/svg+xml"}, prefers(s))
	})
}
