package api

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// ProxyConfig is which proxies stand before the API.
type ProxyConfig struct {
	TrustedProxies []string `envconfig:"TRUSTED_PROXIES" desc:"addresses of the proxies before the API, as CIDRs with commas: X-Forwarded-For, -Proto and -Host count from them alone (empty: from nobody)"`
}

// Validate names the variable that is wrong.
func (c ProxyConfig) Validate() error {
	_, err := c.prefixes()
	return err
}

func (c ProxyConfig) prefixes() ([]netip.Prefix, error) {
	var trusted []netip.Prefix
	for _, text := range c.TrustedProxies {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("FANFARE_TRUSTED_PROXIES: %q must be a CIDR, such as 10.0.0.0/8", text)
		}
		trusted = append(trusted, p.Masked())
	}
	return trusted, nil
}

// Handler is next for requests that may have come through proxies. What it hands on says who the client is: RemoteAddr is
// its address, and X-Forwarded-Proto and X-Forwarded-Host are there only if a trusted proxy set them. So no handler
// has to know which proxies are trusted. The configuration must be valid.
func (c ProxyConfig) Handler(next http.Handler) http.Handler {
	trusted, err := c.prefixes()
	if err != nil {
		panic(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resolve(trusted, r)
		next.ServeHTTP(w, r)
	})
}

const (
	forwardedFor   = "X-Forwarded-For"
	forwardedHost  = "X-Forwarded-Host"
	forwardedProto = "X-Forwarded-Proto"
)

// resolve makes the request say who its client is.
func resolve(trusted []netip.Prefix, r *http.Request) {
	peer, err := netip.ParseAddr(host(r.RemoteAddr))
	if err != nil || !contains(trusted, peer) {
		r.Header.Del(forwardedFor)
		r.Header.Del(forwardedHost)
		r.Header.Del(forwardedProto)
		return
	}
	if client := clientOf(trusted, r.Header.Values(forwardedFor)); client.IsValid() {
		r.RemoteAddr = netip.AddrPortFrom(client, 0).String()
	}
	r.Header.Del(forwardedFor)
	for _, name := range []string{forwardedHost, forwardedProto} {
		if value := last(r.Header.Values(name)); value != "" {
			r.Header.Set(name, value)
		} else {
			r.Header.Del(name)
		}
	}
}

// clientOf is the right-most address that is not a trusted proxy's: each proxy appends its peer, and what stands left of
// an untrusted address is that one's to invent. If all are trusted it is the left-most.
func clientOf(trusted []netip.Prefix, headers []string) (client netip.Addr) {
	entries := strings.Split(strings.Join(headers, ","), ",")
	for i := len(entries) - 1; i >= 0; i-- {
		addr, err := netip.ParseAddr(host(strings.TrimSpace(entries[i])))
		if err != nil {
			break
		}
		client = addr.Unmap()
		if !contains(trusted, client) {
			break
		}
	}
	return client
}

func contains(list []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, p := range list {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// last is the value that the nearest proxy set.
func last(headers []string) string {
	all := strings.Join(headers, ",")
	return strings.TrimSpace(all[strings.LastIndexByte(all, ',')+1:])
}
