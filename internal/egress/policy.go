package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// ErrBlocked is the error of every forbidden destination. It names neither the address nor the rule: who chose the
// URL must not learn from it what the network looks like from here.
var ErrBlocked = errors.New("destination is not allowed")

// errBlockedName is the error where a name resolved to a forbidden address. ClassOf and Describe treat it as they treat a name
// that does not exist: the difference would show which names the network of this process has.
var errBlockedName = fmt.Errorf("the name resolves to a forbidden address: %w", ErrBlocked)

// blockedAt is the error of a dial of host:port that was refused.
func blockedAt(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err == nil {
		_, err = netip.ParseAddr(host)
	}
	if err != nil {
		return errBlockedName
	}
	return ErrBlocked
}

// Policy says where outgoing requests may go. The zero value allows public addresses only.
type Policy struct {
	// AllowPrivate are the otherwise forbidden ranges that may be reached, on any port. It holds for the whole
	// deployment, never for one tenant.
	AllowPrivate []netip.Prefix
	// Deny are ranges that may never be reached, though they are public: those at which this installation itself can be
	// reached from outside, so that no webhook comes back to it. It goes before AllowPrivate.
	Deny []netip.Prefix
}

// ParsePolicy reads a comma-separated list of CIDRs that are allowed; a single address stands for itself.
func ParsePolicy(cidrs string) (Policy, error) {
	allowed, err := parsePrefixes(cidrs)
	return Policy{AllowPrivate: allowed}, err
}

func parsePrefixes(cidrs string) (list []netip.Prefix, err error) {
	for item := range strings.SplitSeq(cidrs, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		prefix, err := parsePrefix(item)
		if err != nil {
			return nil, err
		}
		list = append(list, prefix)
	}
	return list, nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is neither a CIDR nor an address", s)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q: write an IPv4 range as IPv4", s)
	}
	return prefix.Masked(), nil
}

// Control refuses forbidden destinations. It is the ControlContext of a net.Dialer, which calls it with the address
// that it is about to connect to, once for each address of a name.
func (p Policy) Control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" && network != "tcp" {
		return ErrBlocked
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return ErrBlocked
	}
	return p.checkAddrPort(to)
}

// CheckAddr judges an address alone: nil or ErrBlocked.
func (p Policy) CheckAddr(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() {
		return ErrBlocked
	}
	if !p.denied(addr) && (p.allowed(addr) || public(addr)) {
		return nil
	}
	return ErrBlocked
}

func (p Policy) checkAddrPort(to netip.AddrPort) error {
	addr := to.Addr().Unmap().WithZone("")
	if !addr.IsValid() || to.Port() == 0 || p.denied(addr) {
		return ErrBlocked
	}
	if p.allowed(addr) {
		return nil
	}
	if deniedPort(to.Port()) || !public(addr) {
		return ErrBlocked
	}
	return nil
}

// allowed says whether the operator opened the address.
func (p Policy) allowed(addr netip.Addr) bool {
	for _, prefix := range p.AllowPrivate {
		if prefix.Contains(addr) && (prefix.IsSingleIP() || !metadata(addr)) {
			return true
		}
	}
	return false
}

// denied says whether the operator shut the address, in whatever form it is written.
func (p Policy) denied(addr netip.Addr) bool {
	if len(p.Deny) == 0 {
		return false
	}
	return within(p.Deny, addr) || addr.Is6() && (ssrf.IPv6NAT64Prefix.Contains(addr) || isatap(addr)) && within(p.Deny, lastFour(addr))
}

// public says whether the address, which is unmapped and without zone, is one of the internet's.
func public(addr netip.Addr) bool {
	if metadata(addr) {
		return false
	}
	if addr.Is4() {
		return !within(ssrf.IPv4DeniedPrefixes, addr)
	}
	if ssrf.IPv6NAT64Prefix.Contains(addr) {
		// An IPv6-only network reaches the IPv4 internet through these.
		return public(lastFour(addr))
	}
	if !ssrf.IPv6GlobalUnicast.Contains(addr) || within(ssrf.IPv6DeniedPrefixes, addr) {
		return false
	}
	return !isatap(addr) || public(lastFour(addr))
}

func within(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, prefix := range prefixes {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
