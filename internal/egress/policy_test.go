package egress_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"code.dny.dev/ssrf"
	"pgregory.net/rapid"

	"github.com/fanfarehq/fanfare/internal/egress"
)

func mustPolicy(t testing.TB, cidrs string) egress.Policy {
	t.Helper()
	p, err := egress.ParsePolicy(cidrs)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func check(p egress.Policy, addr string, port uint16) error {
	return p.Control(context.Background(), "tcp", netip.AddrPortFrom(netip.MustParseAddr(addr), port).String(), nil)
}

// forbidden holds at least the first, a middle and the last address of every special-purpose block of IANA's registries
// (IPv4 and IPv6, as of 2025), and what the registries do not hold.
var forbidden = []string{
	// iana-ipv4-special-registry
	"0.0.0.0", "0.1.2.3", "0.255.255.255",
	"10.0.0.0", "10.1.2.3", "10.255.255.255",
	"100.64.0.0", "100.100.100.200", "100.127.255.255",
	"127.0.0.0", "127.0.0.1", "127.255.255.255",
	"169.254.0.0", "169.254.169.254", "169.254.170.2", "169.254.255.255",
	"172.16.0.0", "172.20.1.1", "172.31.255.255",
	"192.0.0.0", "192.0.0.8", "192.0.0.9", "192.0.0.10", "192.0.0.170", "192.0.0.171", "192.0.0.192", "192.0.0.255",
	"192.0.2.0", "192.0.2.255", "192.31.196.0", "192.31.196.255", "192.52.193.0", "192.52.193.255",
	"192.88.99.0", "192.88.99.2", "192.88.99.255", "192.168.0.0", "192.168.255.255", "192.175.48.0", "192.175.48.255",
	"198.18.0.0", "198.19.255.255", "198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255",
	"224.0.0.0", "224.0.0.1", "239.255.255.255", "240.0.0.0", "255.255.255.254", "255.255.255.255",
	// A public address of Azure that belongs to no tenant.
	"168.63.129.16",
	// iana-ipv6-special-registry
	"::", "::1", "::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:168.63.129.16",
	"64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::168.63.129.16",
	"64:ff9b:1::", "64:ff9b:1::1", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
	"100::", "100::1", "100::ffff:ffff:ffff:ffff", "100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff",
	"2001::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:1::1", "2001:1::2", "2001:1::3", "2001:2::", "2001:3::",
	"2001:4:112::", "2001:10::", "2001:20::", "2001:2f:ffff::", "2001:30::", "2001:1ff:ffff::",
	"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
	"2002::", "2002:7f00:1::", "2002:a00:1::", "2002:a9fe:a9fe::1", "2002:0808:0808::1",
	"2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff", "3fff::", "3fff:fff::", "5f00::", "5f00:ffff::1",
	"fc00::", "fd00::1", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fdff:ffff::", "fe80::", "fe80::1", "febf::1",
	// Not in the registries: site-local, multicast, compatible, translated, unassigned, and interface-local scopes.
	"fec0::1", "feff::1", "ff00::1", "ff02::1", "ffff::1", "::127.0.0.1", "::10.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1",
	"::ffff:0:8.8.8.8", "4000::1", "8000::1", "1fff::1", "1::1",
	// ISATAP in a global prefix.
	"2600:1f00::5efe:7f00:1", "2600:1f00::5efe:a00:1", "2600:1f00::200:5efe:c0a8:1", "2a00:1450::5efe:a9fe:a9fe",
	"2a00:1450::200:5efe:a83f:8110",
}

var permitted = []string{
	"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255", "100.128.0.0", "126.255.255.255",
	"128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
	"191.255.255.255", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
	"::ffff:8.8.8.8", "2001:200::1", "2001:4860:4860::8888", "2600:1f00::1", "2606:4700:4700::1111", "2a00:1450:4001::1",
	"64:ff9b::8.8.8.8", "2600:1f00::5efe:808:808", "2600:1f00::200:5efe:808:808",
}

func TestForbiddenAddresses(t *testing.T) {
	t.Parallel()
	for _, addr := range forbidden {
		if err := check(egress.Policy{}, addr, 443); err != egress.ErrBlocked {
			t.Errorf("%s: want ErrBlocked itself, got %v", addr, err)
		}
	}
	for _, addr := range permitted {
		if err := check(egress.Policy{}, addr, 443); err != nil {
			t.Errorf("%s: want allowed, got %v", addr, err)
		}
	}
}

// forms are the ways to write an IPv4 address into an IPv6 one by which a host or a router may reach it.
func forms(v4 netip.Addr) map[string]netip.Addr {
	b := v4.As4()
	last := func(prefix ...byte) netip.Addr {
		var a [16]byte
		copy(a[:], prefix)
		copy(a[12:], b[:])
		return netip.AddrFrom16(a)
	}
	teredo := [16]byte{0x20, 0x01, 4: 0x41, 5: 0x36, 6: 0xe3, 7: 0x78}
	for i := range b {
		teredo[12+i] = ^b[i]
	}
	return map[string]netip.Addr{
		"mapped":           last(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff),
		"compatible":       last(),
		"translated":       last(0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff),
		"NAT64":            last(0, 0x64, 0xff, 0x9b),
		"NAT64 local":      last(0, 0x64, 0xff, 0x9b, 0, 1),
		"6to4":             netip.AddrFrom16([16]byte{0x20, 0x02, b[0], b[1], b[2], b[3], 15: 1}),
		"Teredo client":    netip.AddrFrom16(teredo),
		"Teredo server":    netip.AddrFrom16([16]byte{0x20, 0x01, 4: b[0], 5: b[1], 6: b[2], 7: b[3], 15: 1}),
		"ISATAP":           last(0x26, 0x00, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0x5e, 0xfe),
		"ISATAP universal": last(0x26, 0x00, 0x1f, 0, 0, 0, 0, 0, 2, 0, 0x5e, 0xfe),
		"ISATAP local":     last(0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0x5e, 0xfe),
	}
}

func TestForbiddenAddressesInEveryForm(t *testing.T) {
	t.Parallel()
	for _, s := range forbidden {
		addr := netip.MustParseAddr(s)
		if !addr.Is4() {
			continue
		}
		for form, in6 := range forms(addr) {
			if err := (egress.Policy{}).CheckAddr(in6); err != egress.ErrBlocked {
				t.Errorf("%s as %s (%s): want ErrBlocked, got %v", s, form, in6, err)
			}
			if err := (egress.Policy{}).CheckAddr(in6.WithZone("eth0")); err != egress.ErrBlocked {
				t.Errorf("%s as %s with a zone: want ErrBlocked, got %v", s, form, err)
			}
		}
	}
}

func anyAddr(t *rapid.T, label string) netip.Addr {
	raw := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label)
	if rapid.Bool().Draw(t, label+" is IPv4") {
		return netip.AddrFrom4([4]byte(raw[:4]))
	}
	return netip.AddrFrom16([16]byte(raw))
}

// inPrefix draws an address within a prefix.
func inPrefix(t *rapid.T, prefix netip.Prefix) netip.Addr {
	raw := prefix.Addr().AsSlice()
	random := rapid.SliceOfN(rapid.Byte(), len(raw), len(raw)).Draw(t, "host bits")
	for i := range raw {
		free := min(max((i+1)*8-prefix.Bits(), 0), 8)
		raw[i] |= random[i] & (1<<free - 1)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

func TestPropertyNoFormOfADeniedAddressPasses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.SampledFrom(ssrf.IPv4DeniedPrefixes).Draw(t, "prefix")
		addr := inPrefix(t, prefix)
		if (egress.Policy{}).CheckAddr(addr) == nil {
			t.Fatalf("%s of %s is allowed", addr, prefix)
		}
		for form, in6 := range forms(addr) {
			if (egress.Policy{}).CheckAddr(in6) == nil {
				t.Fatalf("%s as %s (%s) is allowed", addr, form, in6)
			}
		}
	})
}

func TestPropertyOnlyGlobalUnicastPasses(t *testing.T) {
	t.Parallel()
	guardian := ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV6Prefixes(ssrf.IPv6NAT64Prefix))
	rapid.Check(t, func(t *rapid.T) {
		addr := anyAddr(t, "addr")
		if (egress.Policy{}).CheckAddr(addr) != nil {
			return
		}
		if err := guardian.SafeAddr(addr.Unmap()); err != nil {
			t.Fatalf("%s is allowed, and the guardian says %v", addr, err)
		}
		if a := addr.Unmap(); a.IsPrivate() || a.IsLoopback() || a.IsMulticast() || !a.IsGlobalUnicast() {
			t.Fatalf("%s is allowed", addr)
		}
	})
}

func TestPropertyAllowedRangeOpensNothingElse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		base := anyAddr(t, "base").Unmap()
		prefix := netip.PrefixFrom(base, rapid.IntRange(0, base.BitLen()).Draw(t, "bits")).Masked()
		p := egress.Policy{AllowPrivate: []netip.Prefix{prefix}}
		addr := anyAddr(t, "addr").Unmap()
		port := rapid.Uint16Min(1).Draw(t, "port")
		to := netip.AddrPortFrom(addr, port).String()
		got, strict := p.Control(t.Context(), "tcp4", to, nil), egress.Policy{}.Control(t.Context(), "tcp4", to, nil)
		if !prefix.Contains(addr) && got != strict {
			t.Fatalf("%s with %s allowed: %v, without %v", to, prefix, got, strict)
		}
		inside := inPrefix(t, prefix)
		if err := p.CheckAddr(inside); err != nil && !isMetadata(inside) {
			t.Fatalf("%s is within %s and blocked", inside, prefix)
		}
	})
}

func isMetadata(addr netip.Addr) bool {
	for _, s := range metadata {
		if netip.MustParseAddr(s) == addr.Unmap() {
			return true
		}
	}
	return false
}

var metadata = []string{
	"169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200", "192.0.0.192",
	"fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
}

func TestMetadataOpensOnlyByItself(t *testing.T) {
	t.Parallel()
	wide := mustPolicy(t, "0.0.0.0/0, ::/0")
	for _, addr := range metadata {
		if wide.CheckAddr(netip.MustParseAddr(addr)) == nil {
			t.Errorf("%s is opened by a wide range", addr)
		}
		if err := mustPolicy(t, addr).CheckAddr(netip.MustParseAddr(addr)); err != nil {
			t.Errorf("%s is not opened by itself: %v", addr, err)
		}
	}
}

func TestAllowedRange(t *testing.T) {
	t.Parallel()
	p := mustPolicy(t, "10.1.0.0/16, fd12::/16,127.0.0.1")
	for addr, want := range map[string]error{
		"10.1.2.3": nil, "::ffff:10.1.2.3": nil, "fd12::1": nil, "127.0.0.1": nil, "8.8.8.8": nil,
		"10.2.0.1": egress.ErrBlocked, "127.0.0.2": egress.ErrBlocked, "fd13::1": egress.ErrBlocked, "::1": egress.ErrBlocked,
		"64:ff9b::10.1.2.3": egress.ErrBlocked, "2002:0a01:0203::": egress.ErrBlocked,
	} {
		if got := p.CheckAddr(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: want %v, got %v", addr, want, got)
		}
	}
}

func TestDeniedRange(t *testing.T) {
	t.Parallel()
	cfg := egress.DefaultConfig()
	cfg.AllowPrivateCIDRs, cfg.DenyCIDRs = "10.0.0.0/8, 64:ff9b::/96", "93.184.216.0/24, 10.1.0.0/16,2a00:1450::/32"
	p, err := cfg.Policy()
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]error{
		"93.184.216.34": egress.ErrBlocked, "::ffff:93.184.216.34": egress.ErrBlocked, "64:ff9b::93.184.216.34": egress.ErrBlocked,
		"2600:1f00::5efe:5db8:d822": egress.ErrBlocked, "10.1.2.3": egress.ErrBlocked, "2a00:1450:4001::1": egress.ErrBlocked,
		"93.184.217.34": nil, "10.2.0.1": nil, "2606:4700:4700::1111": nil, "64:ff9b::8.8.8.8": nil,
	} {
		if got := check(p, addr, 443); got != want {
			t.Errorf("%s: want %v, got %v", addr, want, got)
		}
		if got := p.CheckAddr(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s alone: want %v, got %v", addr, want, got)
		}
	}
	cfg.DenyCIDRs = "all"
	if err := cfg.Validate(); err == nil {
		t.Error("nonsense passes Validate")
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	p := mustPolicy(t, "127.0.0.0/8")
	for port, want := range map[uint16]error{
		80: nil, 443: nil, 8080: nil, 8443: nil, 3000: nil, 40000: nil, 65535: nil,
		0: egress.ErrBlocked, 22: egress.ErrBlocked, 25: egress.ErrBlocked, 4222: egress.ErrBlocked, 5432: egress.ErrBlocked,
		6379: egress.ErrBlocked, 27017: egress.ErrBlocked,
	} {
		if got := check(p, "93.184.216.34", port); got != want {
			t.Errorf("public port %d: want %v, got %v", port, want, got)
		}
		if port == 0 {
			continue
		}
		if got := check(p, "127.0.0.1", port); got != nil {
			t.Errorf("allowed range, port %d: %v", port, got)
		}
	}
}

func TestControlFailsClosed(t *testing.T) {
	t.Parallel()
	p := mustPolicy(t, "0.0.0.0/0,::/0")
	for _, c := range [][2]string{
		{"udp", "8.8.8.8:443"}, {"udp4", "8.8.8.8:443"}, {"unix", "/run/docker.sock"}, {"tcp", "example.com:443"},
		{"tcp", ""}, {"tcp", "8.8.8.8"}, {"tcp", "8.8.8.8:99999"}, {"tcp", "8.8.8.8:"}, {"tcp", "8.8.8.8:0"},
	} {
		if err := p.Control(t.Context(), c[0], c[1], nil); err != egress.ErrBlocked {
			t.Errorf("%v: want ErrBlocked, got %v", c, err)
		}
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0/8;127.0.0.0/8", "fe80::1%eth0", "::ffff:10.0.0.0/104", "all",
	} {
		if p, err := egress.ParsePolicy(s); err == nil {
			t.Errorf("%q: got %v", s, p)
		}
		cfg := egress.DefaultConfig()
		cfg.AllowPrivateCIDRs = s
		if err := cfg.Validate(); err == nil {
			t.Errorf("%q passes Validate", s)
		}
	}
	if p := mustPolicy(t, " , 10.1.2.3/8 ,"); fmt.Sprint(p.AllowPrivate) != "[10.0.0.0/8]" {
		t.Errorf("got %v", p.AllowPrivate)
	}
}

func TestBlockedNamesNothing(t *testing.T) {
	t.Parallel()
	err := check(egress.Policy{}, "10.9.8.7", 1234)
	if !errors.Is(err, egress.ErrBlocked) || err.Error() != egress.ErrBlocked.Error() {
		t.Errorf("got %v", err)
	}
}
