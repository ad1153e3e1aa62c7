package vendors_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// A vendor's client that writes a body that is too large before it reads sees the answer, in the vendor's shape, and no reset.
func TestTooLargeBodiesAreAnswered(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	const size = 8 << 20
	of := map[string]native{}
	for vendor := range creations {
		of[vendor] = h.create(vendor, key, h.receiver.URL)
	}
	routes := []string{
		"PUT /api/v3/oauth/clients/webhook-subscriptions/" + of["leat"].ID, "PUT /api/2.0/webhooks/" + of["passona"].ID,
		fmt.Sprintf("PUT /v1/webhooks/subscriptions/%d", of["babelfor"].Number), fmt.Sprintf("POST /v1/webhooks/subscriptions/%d/test", of["babelfor"].Number),
		"POST /oauth/token", "POST /v1/oauth/token", "POST /v1/oauth/revoke",
	}
	for _, c := range creations {
		routes = append(routes, c.what)
	}
	for _, vendor := range routes {
		method, path, _ := strings.Cut(vendor, " ")
		conn := must(net.Dial("tcp", strings.TrimPrefix(h.url, "http://")))(t)
		_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", method, path, key, size)
		if err == nil {
			_, err = io.Copy(conn, strings.NewReader(strings.Repeat(" ", size)))
		}
		if err != nil {
			t.Errorf("%s: %v", vendor, err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: no answer: %v", vendor, err)
		} else if body := string(must(io.ReadAll(res.Body))(t)); res.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(body, "larger than") {
			t.Errorf("%s: answered %d %s", vendor, res.StatusCode, body)
		}
		_ = conn.Close()
	}
}
