package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// MaxURL is the longest URL that CheckURL accepts, in bytes.
const MaxURL = 2048

// CheckURL judges a URL that is about to be saved and returns it in its canonical form: the host in ASCII and
// lower case. It resolves no name. Its errors are sentences for who gave the URL; those about
// a forbidden address wrap ErrBlocked.
func (p Policy) CheckURL(raw string) (*url.URL, error) {
	if err := checkText(raw); err != nil {
		return nil, err
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's own error repeats the URL, which may hold a secret.
		return nil, errors.New("is not a valid URL")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("scheme must be http or https")
	case u.Opaque != "" || u.Host == "":
		return nil, errors.New("must name a host")
	case u.User != nil:
		return nil, errors.New("must not hold a user name or password")
	}
	if strings.Contains(authority(raw), "%") {
		return nil, errors.New("host must not hold a zone or an escape")
	}
	host, port, err := splitHost(u)
	if err != nil {
		return nil, err
	}
	if u.Host, err = p.checkHost(host, port); err != nil {
		return nil, err
	}
	u.RawQuery = EncodeQuery(u.RawQuery)
	if len(u.String()) > MaxURL {
		return nil, fmt.Errorf("must not be longer than %d bytes", MaxURL)
	}
	return u, nil
}

// checkText refuses what parsers are known to disagree about, before any of them sees it.
func checkText(raw string) error {
	if len(raw) > MaxURL {
		return fmt.Errorf("must not be longer than %d bytes", MaxURL)
	}
	if !utf8.ValidString(raw) {
		return errors.New("must be valid UTF-8")
	}
	for i := range len(raw) {
		switch c := raw[i]; {
		case c <= ' ' || c == 0x7f:
			return errors.New("must not hold spaces or control characters")
		case c == '\\':
			return errors.New("must not hold a backslash")
		case c == '#':
			return errors.New("must not have a fragment")
		}
	}
	return nil
}

// splitHost takes the host without brackets and the port, which is empty where the URL names none.
func splitHost(u *url.URL) (host, port string, err error) {
	host, port = u.Hostname(), u.Port()
	if strings.HasSuffix(u.Host, ":") {
		return "", "", errors.New("port is missing after the colon")
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return "", "", errors.New("port must be between 1 and 65535")
		}
	}
	if host == "" {
		return "", "", errors.New("must name a host")
	}
	return host, port, nil
}

// authority is what stands between the scheme's slashes and the path or query, before the parser unescapes it.
func authority(raw string) string {
	_, rest, _ := strings.Cut(raw, "//")
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	return rest
}

// checkHost judges a host and its port and returns both as they belong into a URL.
func (p Policy) checkHost(host, port string) (string, error) {
	number := portNumber(port)
	if strings.Contains(host, ":") {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return "", errors.New("host is not a valid IPv6 address")
		}
		return withPort("["+addr.String()+"]", port), p.checkLiteral(addr, number)
	}
	name, err := asciiName(host)
	if err != nil {
		return "", err
	}
	if endsInNumber(name) {
		addr, err := netip.ParseAddr(name)
		if err != nil {
			return "", errors.New("host looks like a number and is no IPv4 address of four decimal parts")
		}
		return withPort(name, port), p.checkLiteral(addr, number)
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		// By RFC 6761 these are the loopback addresses, whoever resolves them.
		if p.CheckAddr(netip.IPv6Loopback()) != nil {
			return withPort(name, port), p.checkLiteral(netip.AddrFrom4([4]byte{127, 0, 0, 1}), number)
		}
		return withPort(name, port), nil
	}
	if deniedPort(number) {
		return "", fmt.Errorf("port %d: %w", number, ErrBlocked)
	}
	return withPort(name, port), nil
}

func (p Policy) checkLiteral(addr netip.Addr, port uint16) error {
	if err := p.checkAddrPort(netip.AddrPortFrom(addr, port)); err != nil {
		return fmt.Errorf("address %s: %w", addr, err)
	}
	return nil
}

// portNumber of a checked port. Without one it is that of http or https, which the policy treats alike.
func portNumber(port string) uint16 {
	if port == "" {
		return 443
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

func withPort(host, port string) string {
	if port == "" {
		return host
	}
	return host + ":" + port
}

// asciiName maps an internationalised name to the ASCII name that a resolver would ask for, and refuses what no
// resolver should be asked for.
func asciiName(host string) (string, error) {
	// The mapping turns full-width and circled digits into digits and the ideographic full stop into a dot, so what
	// follows must judge its result and not the text that was given.
	profile := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false), idna.CheckHyphens(false))
	name, err := profile.ToASCII(host)
	if err != nil {
		return "", errors.New("host is not a valid name")
	}
	if again, err := profile.ToASCII(name); err != nil || again != name {
		return "", errors.New("host is not a valid name")
	}
	if strings.HasSuffix(name, ".") {
		return "", errors.New("host must not end in a dot")
	}
	if len(name) > 253 {
		return "", errors.New("host is longer than 253 characters")
	}
	for label := range strings.SplitSeq(name, ".") {
		if !validLabel(label) {
			return "", errors.New("host is not a valid name")
		}
	}
	return name, nil
}

// validLabel allows letters, digits, inner hyphens and, since some hosts have them, underscores.
func validLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		switch c := label[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// endsInNumber is the test of the WHATWG URL standard for hosts that some resolvers read as an IPv4 address: the last
// label is decimal, or hexadecimal after 0x. It catches 2130706433, 0x7f.1, 127.1 and 0177.0.0.1.
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if strings.Trim(last, "0123456789") == "" {
		return true
	}
	hex, ok := strings.CutPrefix(last, "0x")
	return ok && strings.Trim(hex, "0123456789abcdef") == ""
}
