package egress

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxInline is the longest body that http1 sends, in bytes: what the buffers of two sockets hold, so that writing it
// does not wait for a receiver that answers without reading.
const maxInline = 32 << 10

var errTarget = errors.New("the URL's path or query holds a space or a control character")

// takes says whether a request is one for http1: a POST of a small body that is in memory, with headers of the usual kind.
// Over TLS it is, once the receiver was seen to choose HTTP/1.1.
func (h *http1) takes(r *http.Request) bool {
	return r.Method == http.MethodPost && r.Body != nil && r.GetBody != nil && r.ContentLength > 0 && r.ContentLength <= maxInline &&
		!r.Close && r.TransferEncoding == nil && r.Trailer == nil && r.URL.Opaque == "" &&
		plainHost(r.URL.Host) && (r.Host == r.URL.Host || r.Host == "" || plainHost(r.Host)) && plainHeader(r.Header) &&
		(r.URL.Scheme == "http" || r.URL.Scheme == "https" && (h.chosen == nil || h.chosen.has(r.URL.Host)))
}

// plainHost leaves to net/http names that are not ASCII yet, zones, and what is no host at all.
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

// writeRequest writes all of a request, whose body must be as long as it says.
func writeRequest(w *bytes.Buffer, r *http.Request, target string) error {
	w.WriteString("POST " + target + " HTTP/1.1\r\nHost: " + cmp.Or(r.Host, r.URL.Host) + "\r\n")
	if _, ok := r.Header["User-Agent"]; !ok {
		w.WriteString("User-Agent: Go-http-client/1.1\r\n") // as net/http does
	}
	w.WriteString("Content-Length: " + strconv.FormatInt(r.ContentLength, 10) + "\r\n")
	if err := r.Header.Write(w); err != nil {
		return err
	}
	w.WriteString("\r\n")
	n, err := io.Copy(w, io.LimitReader(r.Body, r.ContentLength+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the request's body: %w", err)
	case n != r.ContentLength:
		return fmt.Errorf("the request's body is not %d bytes long", r.ContentLength)
	}
	return nil
}
