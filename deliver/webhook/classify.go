package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/egress"
)

// Error says why an attempt failed. Its text is fit to be stored and shown to the tenant: bounded, printable,
// without addresses. Unwrap gives what net/http said.
type Error struct {
	Reason outcome.Reason
	Err    error
	text   string
}

func newError(reason outcome.Reason, err error) *Error {
	return &Error{Reason: reason, Err: err, text: outcome.SanitizeText(explain(reason, err))}
}

// Error returns the text.
func (e *Error) Error() string { return e.text }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// errTimeout is the cause by which an attempt's deadline is told from the worker's stopping.
var errTimeout = errors.New("no complete answer in time")

// errNoConnection is the cause where the deadline passed before there was a connection.
var errNoConnection = errors.New("no connection in time")

// classify says what kind of failure kept a response from coming.
func classify(err error) outcome.Reason {
	switch {
	case errors.Is(err, errTimeout):
		return outcome.ReasonTimeout
	case isPlainHTTP(err):
		return outcome.ReasonProtocol
	case isLost(err):
		return outcome.ReasonReset
	}
	reason := outcome.Reason(egress.ClassOf(err))
	if reason == outcome.ReasonCancelled {
		// Nobody here gave up, so it was the connection's own end. A cancelled attempt is made again at
		// once; that must never be a receiver's doing.
		return outcome.ReasonReset
	}
	return reason
}

// breaksFraming says whether a body's end shows that the receiver does not frame its answers, rather than
// that the connection or our patience ended: what came before a broken connection was HTTP, and counts.
func breaksFraming(err error) bool {
	return !errors.Is(err, context.Canceled) && classify(err) == outcome.ReasonProtocol
}

// isPlainHTTP recognises a receiver that speaks HTTP without TLS where the URL says https.
func isPlainHTTP(err error) bool {
	record, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok && string(record.RecordHeader[:]) == "HTTP/"
}

// lostTexts are errors of net/http without a type which say that the receiver ended the connection, or of
// HTTP/2 the stream, in a way that the protocol knows.
var lostTexts = [...]string{
	"unexpected EOF reading trailer",
	"received from peer",           // RST_STREAM
	"http2: Transport: cannot ret", // a resend that GetBody refused
	"http2: client conn",           // not established, not usable
}

func isLost(err error) bool {
	if errors.Is(err, errResent) {
		return true
	}
	// What follows the first quote repeats the receiver, which could pose as anything.
	text, _, _ := strings.Cut(err.Error(), `"`)
	for _, lost := range lostTexts {
		if strings.Contains(text, lost) {
			return true
		}
	}
	return false
}

// describeLate says on what the time was spent.
func describeLate(reason outcome.Reason) string {
	if reason == outcome.ReasonDNS {
		return "the host's name was not resolved in time"
	}
	return errNoConnection.Error()
}

// explain puts an error in words for the tenant. What is wrong with the receiver's HTTP, or with the
// subscription, is told as it is; network errors by their kind alone, since they name addresses.
func explain(reason outcome.Reason, err error) string {
	if failed, ok := errors.AsType[*tokenError](err); ok {
		return failed.Error()
	}
	switch reason {
	case outcome.ReasonProtocol, outcome.ReasonRedirect, outcome.ReasonConfig, outcome.ReasonCancelled:
		return err.Error()
	case outcome.ReasonTimeout:
		return errTimeout.Error()
	case outcome.ReasonConnect, outcome.ReasonDNS:
		if errors.Is(err, errNoConnection) {
			return describeLate(reason)
		}
	case outcome.ReasonReset:
		return "the connection was lost before the answer was complete"
	}
	return egress.Describe(err)
}
