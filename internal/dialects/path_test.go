package dialects

import "testing"

func TestCleanPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/":                                "/",
		"/api//webhook-subscriptions":      "/api/webhook-subscriptions",
		"/api/2.0/webhooks/":               "/api/2.0/webhooks",
		"/api/2.0/webhooks//":              "/api/2.0/webhooks",
		"//api////2.0//webhooks///":        "/api/2.0/webhooks",
		"/v1/hooks":                        "/v1/hooks",
		"//":                               "/",
		"/api/2.0/webhooks//?per_page=20/": "/api/2.0/webhooks/?per_page=20",
	} {
		if got := cleanPath(path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}
