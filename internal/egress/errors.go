package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Class says what kind of failure an error of the client is. The words are those of an attempt's reason in the API.
type Class string

// The classes.
const (
	Blocked   Class = "blocked"   // the policy forbids the destination
	DNS       Class = "dns"       // the name did not resolve
	Connect   Class = "connect"   // no connection was made, or not in time
	TLS       Class = "tls"       // the handshake or the certificate failed
	Timeout   Class = "timeout"   // the time ran out, with a connection
	Reset     Class = "reset"     // the connection ended before the response did
	Protocol  Class = "protocol"  // what came back is not HTTP, or not well-formed
	Cancelled Class = "cancelled" // the caller gave up
)

// ClassOf sorts an error of the client, or of reading a response's body.
func ClassOf(err error) Class {
	switch {
	case errors.Is(err, errBlockedName):
		return DNS
	case errors.Is(err, ErrBlocked):
		return Blocked
	case isProxy(err):
		return Connect
	case isDNS(err):
		return DNS
	case errors.Is(err, context.Canceled):
		return Cancelled
	case isTimeout(err):
		if isDial(err) {
			return Connect
		}
		return Timeout
	case isTLS(err):
		return TLS
	case isReset(err):
		return Reset
	case isDial(err):
		return Connect
	}
	return Protocol
}

func isProxy(err error) bool {
	_, ok := errors.AsType[*proxyError](err)
	return ok
}

func isDNS(err error) bool {
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

func isTLS(err error) bool {
	if errors.Is(err, http.ErrSchemeMismatch) {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "remote error" || op.Op == "local error") {
		return true // a TLS alert: its type is not exported
	}
	// crypto/tls has no type for the rest of its errors.
	for err != nil {
		if strings.HasPrefix(err.Error(), "tls: ") {
			return true
		}
		err = errors.Unwrap(err)
	}
	return false
}

func isReset(err error) bool {
	for _, end := range slices.Concat(connectionEnds, []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed}) {
		if errors.Is(err, end) {
			return true
		}
	}
	text := err.Error()
	return strings.Contains(text, "server closed idle connection") ||
		strings.Contains(text, "http2: server sent GOAWAY") ||
		strings.Contains(text, "http2: client connection lost")
}

func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && (op.Op == "dial" || op.Op == "proxyconnect")
}

// Describe says in a sentence what failed. It names no address, so that it may be shown to a tenant: neither the one that
// a name resolved to nor that of a resolver or proxy.
func Describe(err error) string {
	switch ClassOf(err) {
	case Blocked:
		return ErrBlocked.Error()
	case DNS:
		if dns, ok := errors.AsType[*net.DNSError](err); !ok || dns.IsNotFound {
			return "the host does not exist, or its address is not allowed"
		}
		return "the host's name could not be resolved"
	case Connect:
		if proxy, ok := errors.AsType[*proxyError](err); ok {
			return proxy.describe()
		}
		if errors.Is(err, connectionRefused) {
			return "connection refused"
		}
		return "no connection could be made"
	case TLS:
		return describeTLS(err)
	case Timeout:
		return "timed out"
	case Reset:
		return "the connection was closed before the response was complete"
	case Cancelled:
		return "cancelled"
	}
	return "the response is not valid HTTP"
}

func describeTLS(err error) string {
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "TLS: the certificate is not for this host"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "TLS: the certificate is signed by an unknown authority"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if invalid.Reason == x509.Expired {
			return "TLS: the certificate has expired or is not yet valid"
		}
		return "TLS: the certificate is not valid"
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return "TLS: the server answers in plain HTTP"
	}
	return "TLS: the handshake failed"
}

// RedactURL leaves of the URL in a client's error its scheme and host: paths and queries of webhooks are often
// secrets.
func RedactURL(err error) error {
	wrapped, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	redacted := "<redacted>"
	if u, parseErr := url.Parse(wrapped.URL); parseErr == nil && u.Host != "" {
		redacted = u.Scheme + "://" + u.Host + "/<redacted>"
	}
	return &url.Error{Op: wrapped.Op, URL: redacted, Err: wrapped.Err}
}
