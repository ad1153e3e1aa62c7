package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/ingest"
	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/quota"
)

// The default that `fanfare config` shows is the one that the packages' own tests run with.
func TestDefaultsAgree(t *testing.T) {
	t.Parallel()
	of := func(specs ...section) map[string]string {
		values := map[string]string{}
		for _, v := range describe(specs) {
			values[v.Name] = v.Default
		}
		return values
	}
	s := newSettings()
	s.access, s.egress, s.ingest, s.fanout, s.deliver = access.DefaultConfig(), egress.DefaultConfig(), ingest.DefaultConfig(), fanout.DefaultConfig(), deliver.DefaultConfig()
	s.limits = quota.DefaultConfig()
	shown := of(section{"", &s.limits}, section{"", &s.access}, section{"", &s.egress}, section{"", &s.ingest}, section{"", &s.fanout}, section{"", &s.deliver})
	for name, is := range map[string]any{
		"FANFARE_LIMIT_SUBSCRIPTIONS": s.limits.Subscriptions, "FANFARE_LIMIT_SUBSCRIPTION_BYTES": s.limits.SubscriptionBytes,
		"FANFARE_LIMIT_KEYS": s.limits.Keys, "FANFARE_LIMIT_EVENT_TYPES": s.limits.EventTypes, "FANFARE_LIMIT_REPLAYS": s.limits.Replays,
		"FANFARE_LIMIT_TAILS": s.limits.Tails, "FANFARE_LIMIT_PREVIEWS": s.limits.Previews,
		"FANFARE_LIMIT_EVENTS_PER_SECOND": s.limits.EventsPerSecond, "FANFARE_LIMIT_DELIVERIES_PER_SECOND": s.limits.DeliveriesPerSecond,
		"FANFARE_JWT_MAX_TTL":       s.access.JWTMaxTTL,
		"FANFARE_INGEST_MAX_EVENTS": s.ingest.MaxEvents, "FANFARE_INGEST_MAX_BYTES": s.ingest.MaxBytes, "FANFARE_EVENT_TYPES": s.fanout.EventTypes,
		"FANFARE_EVENT_MAX_DATA": s.fanout.MaxData, "FANFARE_EVENTS_MAX_AGE": s.fanout.EventsMaxAge, "FANFARE_EVENTS_MAX_BYTES": s.fanout.EventsMaxBytes,
		"FANFARE_TASKS_MAX_BYTES": s.deliver.TasksMaxBytes, "FANFARE_BACKLOG_MAX_BYTES": s.deliver.BacklogMaxBytes,
		"FANFARE_ATTEMPTS_MAX_BYTES": s.deliver.AttemptsMaxBytes,
		"FANFARE_DELIVER_IN_FLIGHT":  s.deliver.InFlight, "FANFARE_DELIVER_LEASE": s.deliver.Lease,
	} {
		want := fmt.Sprint(is)
		if d, ok := is.(time.Duration); ok {
			shownAs, err := time.ParseDuration(shown[name])
			if err != nil || shownAs != d {
				t.Errorf("%s: config shows %q, the package has %s", name, shown[name], d)
			}
			continue
		}
		if shown[name] != want {
			t.Errorf("%s: config shows %q, the package has %s", name, shown[name], want)
		}
	}
}

// What bounds and copies the streams reaches the topology.
func TestStreamSettings(t *testing.T) {
	t.Parallel()
	s := testSettings(t.TempDir())
	s.server.StreamReplicas, s.fanout.EventsMaxAge = 3, 48*time.Hour
	s.fanout.EventsMaxBytes, s.deliver.TasksMaxBytes, s.deliver.AttemptsMaxBytes = 1<<30, 2<<30, 3<<30
	s.deliver.BacklogMaxBytes = 4 << 30
	want := map[string]int64{"EVENTS": 1 << 30, "TASKS": 2 << 30, "BACKLOG": 4 << 30, "ATTEMPTS": 3 << 30}
	for _, inbox := range inboxes(s) {
		stream := inbox.Stream
		if stream.Replicas != 3 || stream.MaxBytes != want[stream.Name] {
			t.Errorf("%s has %d replicas and at most %d bytes, want 3 and %d", stream.Name, stream.Replicas, stream.MaxBytes, want[stream.Name])
		}
		if stream.Compression != natsjs.NoCompression {
			t.Errorf("%s is replicated and compressed", stream.Name)
		}
		if stream.Name == "EVENTS" && stream.MaxAge != 48*time.Hour {
			t.Errorf("events are kept for %s, want 48h", stream.MaxAge)
		}
		delete(want, stream.Name)
	}
	if len(want) > 0 {
		t.Errorf("no streams: %v", want)
	}
}

// Profiles are served only where they were asked for.
func TestProfiles(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		o := &ops{role: "all", metrics: prometheus.NewRegistry(), pprof: on}
		w := httptest.NewRecorder()
		o.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/pprof/", nil))
		body, err := io.ReadAll(w.Body)
		if err != nil || (w.Code == http.StatusOK && strings.Contains(string(body), "goroutine")) != on {
			t.Errorf("FANFARE_OPS_PPROF=%t: GET /debug/pprof/ answers %d", on, w.Code)
		}
	}
}
