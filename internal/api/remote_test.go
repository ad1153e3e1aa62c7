package api_test

import (
	"testing"

	"github.com/fanfarehq/fanfare/internal/api"
)

func TestWithRemoteAddr(t *testing.T) {
	t.Parallel()
	ctx := api.WithRemoteAddr(t.Context(), "192.0.2.7:4711")
	if got := api.RemoteAddr(ctx); got != "192.0.2.7" {
		t.Errorf("got %q", got)
	}
	// Who is calling stays, whichever is said first.
	ctx = api.WithRemoteAddr(api.WithCaller(ctx, api.Caller{Tenant: "acme"}), "[2001:db8::1]:80")
	if got, caller := api.RemoteAddr(ctx), api.CallerFrom(ctx); got != "2001:db8::1" || caller.Tenant != "acme" {
		t.Errorf("got %q, %+v", got, caller)
	}
	if got := api.RemoteAddr(t.Context()); got != "" {
		t.Errorf("outside of a request: %q", got)
	}
}
