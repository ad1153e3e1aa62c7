package egress

import (
	"fmt"
	"net/http"

	"golang.org/x/net/http2"
)

// replaceHTTP2 makes a transport speak HTTP/2 by golang.org/x/net instead of the copy that is built into net/http. Go
// 1.26.8's copy locks a connection against itself when a receiver raises a stream's window beyond its maximum: the request
// then outlives every deadline, and so do later requests that look for a connection to any receiver. It also repeats a POST
// by itself after a receiver's PROTOCOL_ERROR. It must be called before the first request.
func replaceHTTP2(t *http.Transport) error {
	if !t.ForceAttemptHTTP2 {
		return nil
	}
	if _, err := http2.ConfigureTransports(t); err != nil { //nolint:staticcheck // deprecated for a net/http that has no such fault
		return fmt.Errorf("replace HTTP/2: %w", err)
	}
	return nil
}
