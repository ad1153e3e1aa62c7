package egress_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/egress"
)

func TestCheckURLRefuses(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"", "example.com", "/path", "//example.com", "ftp://example.com", "file:///etc/passwd", "gopher://example.com",
		"javascript:alert(1)", "data:text/plain,x", "http:example.com", "http:/example.com", "http://", "https://:443", "http:///x",
		// userinfo
		"http://user@example.com", "http://user:pass@example.com", "http://@example.com", "http://:@example.com",
		"http://example.com@127.0.0.1", "http://169.254.169.254#@example.com", "http://example.com\\@evil.example",
		// fragments
		"http://example.com/#", "http://example.com/a#b",
		// ports
		"http://example.com:", "http://example.com:0", "http://example.com:00", "http://example.com:99999",
		"http://example.com:65536", "http://example.com:080", "http://example.com:-1", "http://example.com:+80",
		"http://example.com:80a", "http://example.com:22", "http://example.com:25", "http://example.com:6379",
		// loopback and private literals
		"http://127.0.0.1", "http://127.0.0.1:8080/x", "http://10.0.0.1", "http://192.168.1.1", "http://169.254.169.254/latest",
		"http://0.0.0.0", "http://[::]", "http://[::1]", "http://[::ffff:127.0.0.1]", "http://[::ffff:7f00:1]", "http://[::127.0.0.1]",
		"http://[64:ff9b::7f00:1]", "http://[2002:7f00:1::]", "http://[fd00:ec2::254]", "http://168.63.129.16",
		"http://100.100.100.200", "http://192.0.0.192", "http://localhost", "http://LOCALHOST", "http://localhost:8080",
		"http://foo.localhost", "http://localhost.", "http://ⓛocalhost",
		// numbers that some resolver reads as an address
		"http://0", "http://0/", "http://1", "http://2130706433", "http://0x7f.1", "http://0x7f000001", "http://0x7F000001", "http://0x",
		"http://0177.0.0.1", "http://127.1", "http://127.0.1", "http://127.0.0.01", "http://0x7f.0.0.1", "http://1.2.3.4.5",
		"http://256.1.1.1", "http://example.0x7f", "http://example.123",
		// digits in disguise
		"http://①②⑦.⓪.⓪.①", "http://１２７.０.０.１", "http://127。0。0。1", "http://127．0．0．1", "http://２１３０７０６４３３",
		"http://０ｘ７ｆ.1", "http://⑯⑨.254.169.254", "http://𝟙𝟚𝟟.0.0.1",
		// dots and labels
		"http://example.com.", "http://example.com。", "http://.example.com", "http://example..com", "http://.", "http://-a.com",
		"http://a-.com", "http://" + strings.Repeat("a", 64) + ".com", "http://" + strings.Repeat("a.", 127) + "com",
		"http://exa mple.com", "http://exam!ple.com", "http://a,b.com", "http://a;b.com", "http://a'b.com", "http://a*b.com",
		"http://*.example.com", "http://xn--a.com", "http://xn--.com", "http://\u202eexample.com",
		// zones, escapes, brackets
		"http://[fe80::1%25eth0]", "http://[2606:4700::1%25eth0]", "http://[2606:4700::1%eth0]", "http://example%00.com",
		"http://%65xample.com", "http://127.0.0.1%2f.example.com", "http://[::1", "http://::1", "http://[]", "http://[1.2.3.4]",
		"http://[example.com]", "http://[2606:4700::1]x", "http://2606:4700::1",
		// bytes
		"http://example.com/\x00", "http://example.com/\t", "http://exam\tple.com", "\thttp://example.com", " http://example.com",
		"http://example.com ", "http://example.com/a b", "http://example.com/\r\nX: y", "http://example.com\\a", "http:\\\\example.com",
		"http://example.com/\xff", "http://example.com/\x7f", "http://example.com/%zz",
		"http://example.com/" + strings.Repeat("a", egress.MaxURL), "http://" + strings.Repeat("a", 100_000) + ".com",
		"http://example.com/" + strings.Repeat("é", 700),
	} {
		if u, err := (egress.Policy{}).CheckURL(raw); err == nil {
			t.Errorf("%.100q: accepted as %s", raw, u)
		} else if strings.Contains(err.Error(), "user:") {
			t.Errorf("%.100q: the error repeats the URL: %v", raw, err)
		}
	}
}

func TestCheckURLAccepts(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://example.com":                         "https://example.com",
		"http://example.com/":                         "http://example.com/",
		"HTTPS://Example.COM/Path?q=1&secret=x%20y":   "https://example.com/Path?q=1&secret=x%20y",
		"https://example.com:8443/hooks":              "https://example.com:8443/hooks",
		"http://example.com:1024":                     "http://example.com:1024",
		"https://a_b.example.com":                     "https://a_b.example.com",
		"https://qa--mysite.netlify.app":              "https://qa--mysite.netlify.app",
		"https://example.com/?team=Büro&id={id}":      "https://example.com/?team=B%C3%BCro&id=%7Bid%7D",
		`https://example.com/?a="<>|^&f[x]=%20y%&b`:   "https://example.com/?a=%22%3C%3E%7C%5E&f[x]=%20y%25&b",
		"https://bücher.example":                      "https://xn--bcher-kva.example",
		"https://xn--bcher-kva.example":               "https://xn--bcher-kva.example",
		"https://ｅｘａｍｐｌｅ.com":                         "https://example.com",
		"https://例え。テスト/x":                            "https://xn--r8jz45g.xn--zckzah/x",
		"http://93.184.216.34":                        "http://93.184.216.34",
		"http://93.184.216.34:8080/x":                 "http://93.184.216.34:8080/x",
		"http://[2606:4700:4700::1111]:8080/":         "http://[2606:4700:4700::1111]:8080/",
		"http://[2606:4700:4700:0:0:0:0:1111]":        "http://[2606:4700:4700::1111]",
		"https://3com.com":                            "https://3com.com",
		"https://1.example":                           "https://1.example",
		"https://example.com/%00":                     "https://example.com/%00",
		"https://example.com/?":                       "https://example.com/?",
		"https://erp/hook":                            "https://erp/hook",
		"https://169.254.169.254.nip.io/x":            "https://169.254.169.254.nip.io/x", // blocked at dial
		"https://example.com/a//b/../c;d=e?f=http://": "https://example.com/a//b/../c;d=e?f=http://",
	} {
		u, err := (egress.Policy{}).CheckURL(raw)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
		} else if u.String() != want {
			t.Errorf("%q: want %s, got %s", raw, want, u)
		}
	}
}

func TestCheckURLWithAllowedRange(t *testing.T) {
	t.Parallel()
	p := mustPolicy(t, "127.0.0.0/8,fd12::/16")
	for _, raw := range []string{
		"http://127.0.0.1:6379", "http://127.9.9.9:45678/x", "http://localhost:6379", "http://localhost:45678", "http://[fd12::1]:22/",
		"http://[::ffff:127.0.0.1]:8080",
	} {
		if _, err := p.CheckURL(raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
	for _, raw := range []string{"http://10.0.0.1", "http://[::1]", "http://[fd13::1]", "http://169.254.169.254"} {
		if _, err := p.CheckURL(raw); !errors.Is(err, egress.ErrBlocked) {
			t.Errorf("%s: want ErrBlocked, got %v", raw, err)
		}
	}
	if _, err := mustPolicy(t, "::1").CheckURL("http://localhost:8080"); err != nil {
		t.Errorf("localhost with ::1 allowed: %v", err)
	}
}

// What CheckURL accepts is in canonical form, so that it accepts it again unchanged, and no literal address in it is
// forbidden.
func FuzzCheckURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/x?y=z", "http://[::ffff:127.0.0.1]:80", "http://①②⑦.⓪.⓪.①", "http://0x7f.1", "http://a@b:c#d",
		"http://xn--bcher-kva.example:8080", "http://[2606:4700::1]", "https://bücher.example/é",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := (egress.Policy{}).CheckURL(raw)
		if err != nil {
			return
		}
		host := u.Hostname()
		if (u.Scheme != "http" && u.Scheme != "https") || host == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
			t.Fatalf("%q: accepted as %#v", raw, u)
		}
		if strings.ContainsFunc(u.Host, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`\/@%#?`, r) }) {
			t.Fatalf("%q: host %q", raw, u.Host)
		}
		if addr, err := netip.ParseAddr(host); err == nil && (egress.Policy{}).CheckAddr(addr) != nil {
			t.Fatalf("%q: holds %s", raw, addr)
		}
		again, err := (egress.Policy{}).CheckURL(u.String())
		if err != nil || again.String() != u.String() {
			t.Fatalf("%q: %s becomes %v, %v", raw, u, again, err)
		}
	})
}
