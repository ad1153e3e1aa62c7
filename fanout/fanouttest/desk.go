package fanouttest

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

// Desk serves operations to callers whose keys are "admin" and the names of tenants, who hold every scope.
type Desk struct {
	t   testing.TB
	Mux *http.ServeMux
}

// NewDesk makes a Desk that serves the operations that add registers.
func NewDesk(t testing.TB, add ...func(huma.API)) *Desk {
	t.Helper()
	d := &Desk{t: t, Mux: http.NewServeMux()}
	to := api.New(d.Mux, api.Config{Title: "test", Version: "1", Logger: slog.New(slog.DiscardHandler), CursorKey: make([]byte, 32)}, d)
	for _, a := range add {
		a(to)
	}
	return d
}

// Authenticate takes a key for the name of its caller.
func (d *Desk) Authenticate(_ context.Context, credential string) (api.Caller, error) {
	if credential == "admin" {
		return api.Caller{Admin: true}, nil
	}
	return api.Caller{Tenant: credential, Scopes: []string{
		"events:read", "events:write", "subscriptions:read", "subscriptions:write", "deliveries:read", "deliveries:write"}}, nil
}

// Call demands a status and reads the answer into out, which may be nil.
func (d *Desk) Call(key, method, path string, body any, want int, out any) {
	d.t.Helper()
	raw := []byte{}
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			d.t.Fatal(err)
		}
	}
	req := httptest.NewRequestWithContext(d.t.Context(), method, path, bytes.NewReader(raw))
	req.Header.Set("Authorization", "Bearer "+key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	rec := httptest.NewRecorder()
	d.Mux.ServeHTTP(rec, req)
	if rec.Code != want {
		d.t.Fatalf("%s %s: got %d %s, want %d", method, path, rec.Code, rec.Body, want)
	}
	if out != nil {
		if err := json.Unmarshal(rec.Body.Bytes(), out); err != nil {
			d.t.Fatalf("%s %s: %v in %s", method, path, err, rec.Body)
		}
	}
}
