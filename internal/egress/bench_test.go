package egress_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// BenchmarkPost compares a route and the guarded client with a plain transport that is tuned alike: the guard costs something
// only when a connection is opened.
func BenchmarkPost(b *testing.B) {
	r := newReceiver(b, nil)
	r.Start()
	plain := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}}
	b.Cleanup(plain.CloseIdleConnections)
	guarded := newClient(b, "127.0.0.0/8")
	route := routeTo(b, guarded, r.URL, http.Header{"Content-Type": {"application/json"}})
	const body = `{"type":"order.created"}`
	by := func(c *http.Client) func() (*http.Response, error) {
		return func() (*http.Response, error) { return c.Post(r.URL, "application/json", strings.NewReader(body)) }
	}
	for name, send := range map[string]func() (*http.Response, error){
		"plain": by(plain), "guarded": by(guarded), "route": func() (*http.Response, error) {
			return route.Post(b.Context(), &egress.Post{
				Body: []byte(body), Until: time.Now().Add(time.Minute), BodyTime: time.Minute,
			})
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := send()
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			})
		})
	}
}
