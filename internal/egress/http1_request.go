package egress

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxInline is the longest body that http1 sends, in bytes: what the buffers of two sockets hold, so that writing it
// does not wait for a receiver that answers without reading.
const maxInline = 32 << 10

var errTarget = errors.New("the URL's path or query holds a space or a control character")

// takes says whether a request is one for http1: a POST of a small body that is in memory, with headers of the usual kind.
func (h *http1) takes(r *http.Request) bool {
	return r.Method == http.MethodPost && r.Body != nil && r.GetBody != nil && r.ContentLength > 0 && r.ContentLength <= maxInline &&
		!r.Close && r.TransferEncoding == nil && r.Trailer == nil && plainURL(r.URL) &&
		(r.Host == r.URL.Host || r.Host == "" || plainHost(r.Host)) && plainHeader(r.Header) && h.reaches(r.URL.Scheme == "https", r.URL.Host)
}

// reaches says whether a receiver speaks HTTP/1.1: over TLS, once it was seen to choose it.
func (h *http1) reaches(secure bool, host string) bool {
	return !secure || h.chosen == nil || h.chosen.has(host)
}

func plainURL(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https") && u.Opaque == "" && plainHost(u.Host)
}

// plainHost leaves to net/http names that are not ASCII yet, zones, and malformed hosts.
func plainHost(host string) bool {
	return host != "" && host[0] != ':' && httpguts.ValidHostHeader(host) && !strings.Contains(host, "%")
}

// plainHeader leaves to net/http what it refuses, and what frames a message or changes the connection's use.
func plainHeader(header http.Header) bool {
	for name, values := range header {
		switch http.CanonicalHeaderKey(name) {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer", "Connection", "Expect", "Upgrade":
			return false
		}
		if !httpguts.ValidHeaderFieldName(name) {
			return false
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return false
			}
		}
	}
	return true
}

// onOneLine says whether a target leaves the request's first line in three words. A URL that was parsed may hold spaces in
// its query; one that was put together, anything.
func onOneLine(target string) bool {
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// RoundTrip makes a request that takes agreed to. It makes it again, with the body of GetBody, where post does.
func (h *http1) RoundTrip(r *http.Request) (*http.Response, error) {
	a := &asked{Request: r, target: r.URL.RequestURI()}
	if !onOneLine(a.target) {
		_ = r.Body.Close()
		return nil, errTarget
	}
	resp, err := h.post(&post{ctx: r.Context(), to: recipientOf(tenantOf(r.Context()), r.URL), write: a.write})
	if errors.Is(err, errChooseAgain) {
		next := *r
		if next.Body, err = a.open(); err != nil {
			return nil, err
		}
		return h.otherwise.byNetHTTP(&next)
	}
	if err != nil {
		if !a.opened {
			_ = r.Body.Close()
		}
		return nil, err
	}
	resp.Request = r
	return resp, nil
}

// asked is a request that somebody asked for.
type asked struct {
	*http.Request
	target string
	opened bool // the body
}

// open returns the request's body; from the second time on, that of GetBody.
func (a *asked) open() (io.ReadCloser, error) {
	if a.opened {
		return a.GetBody()
	}
	a.opened = true
	return a.Body, nil
}

// write writes all of the request, whose body must be as long as it says.
func (a *asked) write(w *bytes.Buffer) error {
	body, err := a.open()
	if err != nil {
		return err
	}
	writeHead(w, a.target, cmp.Or(a.Host, a.URL.Host), a.Header)
	writeLength(w, a.ContentLength)
	n, err := io.Copy(w, io.LimitReader(body, a.ContentLength+1))
	closeErr := body.Close()
	switch {
	case err != nil:
		return fmt.Errorf("read the request's body: %w", err)
	case n != a.ContentLength:
		return fmt.Errorf("the request's body is not %d bytes long", a.ContentLength)
	}
	return closeErr
}

// writeHead writes the first lines of a request.
func writeHead(w *bytes.Buffer, target, host string, header http.Header) {
	w.WriteString("POST " + target + " HTTP/1.1\r\nHost: " + host + "\r\n")
	if _, ok := header["User-Agent"]; !ok {
		w.WriteString("User-Agent: Go-http-client/1.1\r\n") // as net/http does
	}
	_ = header.Write(w) // a buffer takes it all
}

// writeLength writes the last line, and the one that ends the header.
func writeLength(w *bytes.Buffer, n int64) {
	w.WriteString("Content-Length: ")
	w.Write(strconv.AppendInt(w.AvailableBuffer(), n, 10))
	w.WriteString("\r\n\r\n")
}
