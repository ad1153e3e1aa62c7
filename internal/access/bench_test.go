package access_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// BenchmarkGuard is what a request pays before its handler begins: the mux, the guard, a key that is known, its scope.
func BenchmarkGuard(b *testing.B) {
	p := start(b, servertest.Postgres(b))
	key := p.create(b, adminKey, acmeKeys).Key
	mux := http.NewServeMux()
	to := api.New(mux, api.Config{Title: "t", Version: "1"}, p.Access)
	api.Mount(to, huma.Operation{Method: http.MethodPost, Path: "/v1/events"}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		api.Scope("events:write"))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		ctx, stop := context.WithCancel(b.Context()) // as each connection has one of its own
		defer stop()
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/events", nil)
		r.Header.Set("Authorization", "Bearer "+key)
		for pb.Next() {
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				b.Fatal(w.Body)
			}
		}
	})
}
