package webhook

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
)

// errResent ends an attempt whose request would have to be sent once more than is safe.
var errResent = errors.New("the connection was lost before the request was taken up")

// mostResends says how often the client may make a request again within an attempt. Both protocols do so only
// where the receiver cannot have taken the request up, which is safe: HTTP/1 if no byte of it was written to a
// connection that had been closed, HTTP/2 if the receiver says so. But HTTP/2, which TLS may bring, tries for
// minutes, and slower each time; once spares the usual case, a connection that is being retired, a failed attempt.
func mostResends(scheme string) int {
	if scheme == "http" {
		return 8 // connections that went stale together
	}
	return 1
}

// resends hands the client the body anew, and counts how often that led to a request. An attempt uses it
// from one goroutine.
type resends struct {
	body []byte
	most int
	made int
	last *resentBody
}

// resentBody knows whether it was read. Net/http asks for a body more often than it needs one: it finds out
// only then that it has to make a new connection.
type resentBody struct {
	bytes.Reader
	read atomic.Bool
}

// next is the GetBody of a request.
func (r *resends) next() (io.ReadCloser, error) {
	if r.last == nil || r.last.read.Load() {
		if r.made == r.most {
			return nil, errResent
		}
		r.made++
	}
	r.last = &resentBody{}
	r.last.Reset(r.body)
	return r.last, nil
}

// Read marks the body as read: the transport writes a request, or is about to.
func (b *resentBody) Read(p []byte) (int, error) {
	b.read.Store(true)
	return b.Reader.Read(p)
}

// WriteTo does as Read does.
func (b *resentBody) WriteTo(w io.Writer) (int64, error) {
	b.read.Store(true)
	return b.Reader.WriteTo(w)
}

// Close does nothing.
func (b *resentBody) Close() error { return nil }
