package rest

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddress(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, c := range map[string]struct {
		connection string
		forwarded  []string
		want       string
	}{
		"nobody between":            {"198.51.100.7:1234", nil, "198.51.100.7"},
		"a stranger's claim":        {"198.51.100.7:1234", []string{"192.0.2.1"}, "198.51.100.7"},
		"behind a proxy":            {"10.0.0.1:1234", []string{"198.51.100.7"}, "198.51.100.7"},
		"behind two":                {"10.0.0.1:1234", []string{"198.51.100.7, 10.0.0.2"}, "198.51.100.7"},
		"two headers":               {"10.0.0.1:1234", []string{"198.51.100.7", "10.0.0.2"}, "198.51.100.7"},
		"a claim before a proxy":    {"10.0.0.1:1234", []string{"192.0.2.1, 198.51.100.7"}, "198.51.100.7"},
		"a claim to be a proxy":     {"10.0.0.1:1234", []string{"10.0.0.9"}, "10.0.0.9"},
		"a proxy that says none":    {"10.0.0.1:1234", nil, "10.0.0.1"},
		"a proxy that says rubbish": {"10.0.0.1:1234", []string{"198.51.100.7, unknown"}, "10.0.0.1"},
		"with a port":               {"10.0.0.1:1234", []string{"198.51.100.7:55000"}, "198.51.100.7"},
		"IPv6":                      {"[fd00::1]:1", []string{"2001:db8::7"}, "2001:db8::7"},
		"IPv4 in IPv6":              {"[::ffff:10.0.0.1]:1", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		"a zone":                    {"[fe80::1%eth0]:1", nil, "fe80::1"},
		"a socket":                  {"@", []string{"198.51.100.7"}, ""},
	} {
		hr := httptest.NewRequest(http.MethodPost, "/", nil)
		hr.RemoteAddr, hr.Header["X-Forwarded-For"] = c.connection, c.forwarded
		require.Equal(t, c.want, (&Request{http: hr, proxies: proxies}).Address(), name)
	}
	hr := httptest.NewRequest(http.MethodPost, "/", nil)
	hr.RemoteAddr, hr.Header["X-Forwarded-For"] = "10.0.0.1:1", []string{"198.51.100.7"}
	require.Equal(t, "10.0.0.1", (&Request{http: hr}).Address(), "nobody is trusted unless told")
}
