package api

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// bodyError is a request's body that could not be read: the fault of who sent it, or of the way between.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "read request body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// problem of a body that could not be read.
func (e *bodyError) problem() *Problem {
	if large, ok := errors.AsType[*http.MaxBytesError](e.err); ok {
		return tooLarge(large.Limit)
	}
	if timeout, ok := errors.AsType[net.Error](e.err); ok && timeout.Timeout() {
		return problem(http.StatusRequestTimeout, "the request body did not arrive in time")
	}
	return problem(http.StatusBadRequest, "the request body could not be read")
}

// body marks the errors of reading, and lifts the read deadline once the body is whole: it would otherwise end the
// connection, and with it the request's context, while a long operation is still at work.
type body struct {
	io.ReadCloser
	w http.ResponseWriter
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		_ = http.NewResponseController(b.w).SetReadDeadline(time.Time{}) // not every writer has deadlines
	default:
		err = &bodyError{err}
	}
	return n, err
}

// limitBody bounds the size of a raw handler's body and the time that reading it may take.
func limitBody(op *huma.Operation, next http.Handler) http.Handler {
	if op.RequestBody == nil {
		return next
	}
	limit, timeout := op.MaxBodyBytes, op.BodyReadTimeout
	if timeout == 0 {
		timeout = defaultBodyTimeout
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if timeout > 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeout))
		}
		if limit > 0 {
			r.Body = http.MaxBytesReader(w, r.Body, limit)
		}
		r.Body = &body{ReadCloser: r.Body, w: w}
		next.ServeHTTP(w, r)
	})
}

// AcceptEncoding is the Accept-Encoding of a 415 for a body's encoding (RFC 9110, 12.5.3): none is supported.
const AcceptEncoding = "identity"

// Encoded reports whether a body is sent in an encoding.
func Encoded(h http.Header) bool {
	encoding := h.Get("Content-Encoding")
	return encoding != "" && !strings.EqualFold(encoding, "identity")
}

// refuseEncoded answers 415 to a body that is sent in an encoding.
func refuseEncoded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if Encoded(r.Header) {
			w.Header().Set("Accept-Encoding", AcceptEncoding)
			WriteProblem(w, http.StatusUnsupportedMediaType, "Content-Encoding is not supported: send the body as it is")
			return
		}
		next.ServeHTTP(w, r)
	})
}
