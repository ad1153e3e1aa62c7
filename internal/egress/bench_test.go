package egress_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkPost compares the guarded client with a plain transport that is tuned alike: the guard costs something only
// when a connection is opened.
func BenchmarkPost(b *testing.B) {
	r := newReceiver(b, nil)
	r.Start()
	plain := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}}
	b.Cleanup(plain.CloseIdleConnections)
	for name, client := range map[string]*http.Client{"plain": plain, "guarded": newClient(b, "127.0.0.0/8")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := client.Post(r.URL, "application/json", strings.NewReader(`{"type":"order.created"}`))
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
