package egress

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxInline is the longest body that http1 sends, in bytes. The buffers of two sockets hold as much, so that writing it does not
// wait for a receiver that answers without reading.
const maxInline = 32 << 10

// plainURL leaves to net/http the URLs of other forms.
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
