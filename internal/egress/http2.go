package egress

import (
	"fmt"
	"net/http"

	"golang.org/x/net/http2"
)

// ReplaceHTTP2 makes a client of NewClient speak HTTP/2 by golang.org/x/net instead of the copy that is built into
// net/http. Go 1.26.8's copy locks a connection against itself when a receiver raises a stream's window beyond its
// maximum: the request then outlives every deadline, and so do those that look for a connection to anybody
// afterwards. It also repeats a POST by itself after a receiver's PROTOCOL_ERROR. Call it before the first request;
// a second call does nothing, nor does a call for a client without HTTP/2.
func ReplaceHTTP2(client *http.Client) error {
	t, ok := transportOf(client)
	if !ok || !t.ForceAttemptHTTP2 || t.TLSNextProto["h2"] != nil {
		return nil
	}
	if _, err := http2.ConfigureTransports(t.Transport); err != nil { //nolint:staticcheck // deprecated for a net/http that has no such fault
		return fmt.Errorf("replace HTTP/2: %w", err)
	}
	return nil
}
