package rest

import (
	"net/netip"
	"strings"
)

// Address returns the IP address of the client, "" when the connection has none. It
// is the connection's, or, behind a proxy that is trusted, the last address of
// X-Forwarded-For that is not such a proxy: each proxy appends whom it saw, and what
// stands further left is what somebody claims.
func (r *Request) Address() string {
	at, err := netip.ParseAddrPort(r.http.RemoteAddr)
	if err != nil {
		return ""
	}
	client := at.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.http.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && r.trusts(client); i-- {
		seen, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		client = seen.Unmap().WithZone("")
	}
	return client.String()
}

func (r *Request) trusts(a netip.Addr) bool {
	for _, p := range r.proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
