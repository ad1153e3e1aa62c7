package deliver

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/textproto"
	"strings"
	"syscall"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// Error says why an attempt failed. Its text is fit to be stored and shown to the tenant: bounded, printable,
// without Fanfare's own addresses. Unwrap gives what net/http said.
type Error struct {
	Reason Reason
	Err    error
	text   string
}

func newError(reason Reason, err error) *Error {
	return &Error{Reason: reason, Err: err, text: sanitizeText(explain(reason, err))}
}

// Error returns the text.
func (e *Error) Error() string { return e.text }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// errResent ends an attempt whose request would have to be sent once more than is safe.
var errResent = errors.New("the connection was lost before the request was taken up")

// classify says what kind of failure kept a response from coming.
func classify(err error) Reason {
	switch {
	case errors.Is(err, egress.ErrBlocked):
		return ReasonBlocked
	case isDNS(err):
		return ReasonDNS
	case isPlainHTTP(err), isMalformed(err):
		return ReasonProtocol
	case isTLS(err):
		return ReasonTLS
	case isOp(err, "dial"), isOp(err, "proxyconnect"):
		return ReasonConnect
	case isReset(err):
		return ReasonReset
	case isTimeout(err):
		return ReasonTimeout
	}
	return ReasonProtocol
}

// breaksFraming says whether a body's end shows that the receiver does not frame its answers, rather than
// that the connection or our patience ended: what came before a broken connection was HTTP, and counts.
func breaksFraming(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, errTimeout) || isTimeout(err) {
		return false
	}
	if isMalformed(err) {
		return true
	}
	return !isReset(err) && !isTLS(err)
}

func isDNS(err error) bool {
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

// isPlainHTTP recognises a receiver that speaks HTTP without TLS where the URL says https.
func isPlainHTTP(err error) bool {
	record, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok && string(record.RecordHeader[:]) == "HTTP/"
}

// isMalformed recognises a header line that is none; the error's text repeats it.
func isMalformed(err error) bool {
	_, ok := errors.AsType[textproto.ProtocolError](err)
	return ok
}

// ownText is an error's text without what it quotes of the receiver, which could pose as anything.
func ownText(err error) string {
	text, _, _ := strings.Cut(err.Error(), `"`)
	return text
}

func isTLS(err error) bool {
	if isOp(err, "remote error") || isOp(err, "local error") { // an alert, theirs or ours
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	text := ownText(err) // most of crypto/tls's errors have no type
	return strings.Contains(text, "tls: ") || strings.Contains(text, "TLS handshake") || strings.Contains(text, "x509: ")
}

func isOp(err error, op string) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == op
}

// lostTexts are errors of net/http without a type which say that the connection went away.
var lostTexts = [...]string{
	"server closed idle connection",
	"unexpected EOF",      // while reading a trailer
	"sent GOAWAY",         // HTTP/2 from here on
	"received from peer",  // RST_STREAM
	"connection lost",     //
	"client conn",         // not usable, closed, not established
	"cannot retry err",    //
	"body closed by",      //
	"request body closed", //
}

func isReset(err error) bool {
	for _, lost := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed, errResent} {
		if errors.Is(err, lost) {
			return true
		}
	}
	text := ownText(err)
	for _, lost := range lostTexts {
		if strings.Contains(text, lost) {
			return true
		}
	}
	return false
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// explain puts an error in words for the tenant. Of network errors it leaves out our own address and our
// name server's; a blocked destination reads the same whatever rule forbade it and whatever is there.
func explain(reason Reason, err error) string {
	if reason == ReasonBlocked {
		return egress.ErrBlocked.Error()
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return "look up " + e.Name + ": " + e.Err
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		if e.Op == "dial" && e.Addr != nil {
			return "connect to " + e.Addr.String() + ": " + e.Err.Error()
		}
		return e.Op + ": " + e.Err.Error()
	}
	return err.Error()
}
