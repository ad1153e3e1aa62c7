package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Requests are counted by their route and class, and those that change something are logged.
func TestAPIRequestsAreCountedAndChangesLogged(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("DELETE /v1/keys/{id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /v1/events", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	registry := prometheus.NewRegistry()
	var log bytes.Buffer
	handler := newAPIMetrics(registry, []string{"DELETE /v1/keys/{id}", "POST /v1/events"}, slog.New(slog.NewTextHandler(&log, nil))).around(mux)
	for _, r := range []*http.Request{
		httptest.NewRequest(http.MethodDelete, "/v1/keys/k17", nil), httptest.NewRequest(http.MethodPost, "/v1/events", nil),
		httptest.NewRequest(http.MethodGet, "/nowhere", nil),
	} {
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "fanfare_api_requests_total" && m.GetCounter().GetValue() > 0 {
				got[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	for _, want := range []string{"DELETE /v1/keys/{id} 2xx", "POST /v1/events 2xx", "none 4xx"} {
		if got[want] != 1 {
			t.Errorf("%s was counted %v times, want once: %v", want, got[want], got)
		}
	}
	if lines := log.String(); strings.Count(lines, "\n") != 1 || !strings.Contains(lines, "changed over the API") || !strings.Contains(lines, "/v1/keys/k17") {
		t.Errorf("the log has\n%s\nwant one line, of the revoked key", lines)
	}
}
