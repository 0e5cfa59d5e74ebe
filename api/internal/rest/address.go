package rest

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Address returns the IP address of the client, "" when the connection has none.
func (r *Request) Address() string {
	if a := ClientAddress(r.http, r.proxies); a.IsValid() {
		return a.String()
	}
	return ""
}

// ClientAddress is the connection's address, or, behind a proxy that is trusted,
// the last address of X-Forwarded-For that is not such a proxy: each proxy appends
// whom it saw, and what stands further left is what somebody claims. It is invalid
// when the connection has none.
func ClientAddress(r *http.Request, proxies []netip.Prefix) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	client := at.Addr().Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && trusted(client); i-- {
		seen, ok := hop(strings.TrimSpace(hops[i]))
		if !ok {
			break
		}
		client = seen
	}
	return client
}

// hop reads an address that a proxy wrote, some with a port.
func hop(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		with, e := netip.ParseAddrPort(s)
		a, err = with.Addr(), e
	}
	return a.Unmap().WithZone(""), err == nil
}
