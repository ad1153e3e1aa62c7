package egress_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// late makes a request whose deadline passes, by the client and by a route, and returns on what the time was spent. A busy machine
// must have connected by then.
func late(t *testing.T, c *http.Client, to string) egress.Class {
	t.Helper()
	const most = time.Second
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	var p egress.Progress
	req, err := http.NewRequestWithContext(egress.WithProgress(ctx, &p), http.MethodPost, to, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		resp.Body.Close()
		t.Fatalf("%s: got %s, want that the time passes", to, resp.Status)
	}
	byRoute := egress.Post{Body: []byte("{}"), Until: time.Now().Add(most), BodyTime: time.Minute}
	if resp, err := routeTo(t, c, to, nil).Post(t.Context(), &byRoute); err == nil {
		resp.Body.Close()
		t.Fatalf("%s by a route: got %s, want that the time passes", to, resp.Status)
	}
	if got := byRoute.Class(); got != p.Class() {
		t.Errorf("%s by a route: got %s, by the client %s", to, got, p.Class())
	}
	return p.Class()
}

func TestProgressTellsASlowReceiverFromNone(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		<-over // a name server that cannot be reached
		return nil, net.ErrClosed
	}}
	c := newClient(t, "127.0.0.0/8", egress.WithResolver(resolver))
	if got := late(t, c, "http://receiver.example/"); got != egress.DNS {
		t.Errorf("a name that does not resolve: got %s, want %s", got, egress.DNS)
	}
	r := newReceiver(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body) // or the end of the connection is not noticed
		if req.URL.Path == "/slow" {
			<-req.Context().Done()
		}
		_, _ = io.WriteString(w, "ok")
	})
	r.Start()
	if got := late(t, c, r.URL+"/slow"); got != egress.Timeout {
		t.Errorf("a receiver that does not answer: got %s, want %s", got, egress.Timeout)
	}
	posted(t, c, r.URL, "200 OK ok")
	routed(t, routeTo(t, c, r.URL, nil), "200 OK ok")
	before := r.connections.Load()
	if got := late(t, c, r.URL+"/slow"); got != egress.Timeout || r.connections.Load() != before {
		t.Errorf("over a connection that was there: got %s, want %s", got, egress.Timeout)
	}
}
