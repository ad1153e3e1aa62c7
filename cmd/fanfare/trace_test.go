package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collected are the spans that a collector got.
type collected struct {
	mu    sync.Mutex
	spans []*otlp.Span
}

// newCollector takes traces by OTLP over HTTP.
func newCollector(t *testing.T) (*collected, string) {
	t.Helper()
	c := &collected{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &req)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range req.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(server.Close)
	return c, server.URL
}

// named returns the spans of a trace with a name; of all traces for an empty one.
func (c *collected) named(trace, name string) (found []*otlp.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.GetName() == name && (trace == "" || hex.EncodeToString(s.GetTraceId()) == trace) {
			found = append(found, s)
		}
	}
	return found
}

// attribute is one of a span, as text.
func attribute(s *otlp.Span, name string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == name {
			if text := a.GetValue().GetStringValue(); text != "" {
				return text
			}
			return fmt.Sprint(a.GetValue().GetIntValue())
		}
	}
	return ""
}

// parents keeps the traceparents that a receiver got, by path. The first request of /flaky fails.
type parents struct {
	mu   sync.Mutex
	seen map[string][]string
}

func (p *parents) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[r.URL.Path] = append(p.seen[r.URL.Path], r.Header.Get("Traceparent"))
	if r.URL.Path == "/flaky" && len(p.seen[r.URL.Path]) == 1 {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func (p *parents) at(path string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.seen[path]...)
}

// A trace leads from the publisher over publish, match, task and each attempt to the receiver, over HTTP and NATS; a resend is a
// trace of its own with a link; what the publisher did not sample makes no spans and is handed on.
func TestTraces(t *testing.T) {
	t.Parallel()
	spans, endpoint := newCollector(t)
	received := &parents{seen: map[string][]string{}}
	receiver := httptest.NewServer(received)
	t.Cleanup(receiver.Close)
	dir := filepath.Join(dataDir(t), "fanfare-data")
	p, at := startAll(t, dir, "OTEL_EXPORTER_OTLP_ENDPOINT="+endpoint, "OTEL_BSP_SCHEDULE_DELAY=50")
	c := adminClient(t, at, dir)
	for path, kind := range map[string]string{"/once": "once.>", "/flaky": "flaky.>"} {
		call(t, c, "POST /v1/subscriptions?tenant=acme", map[string]any{
			"name": path, "url": receiver.URL + path, "event_types": []string{kind}, "retry": map[string]any{"schedule": []string{"1ms"}},
		}, nil)
	}
	publish := func(media, body, parent string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at.API+"/v1/events?tenant=acme", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+c.Key)
		req.Header.Set("Content-Type", media)
		req.Header.Set("Traceparent", parent)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			t.Fatalf("publish: %s", resp.Status)
		}
	}

	// One event, in the trace of its publisher, to a receiver that fails once.
	const first, firstSpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	publish("application/json", `{"type":"flaky.created","id":"evt_1","data":{}}`, "00-"+first+"-"+firstSpan+"-01")
	await(t, "both attempts are traced", func() bool { return len(spans.named(first, "attempt")) == 2 })
	follow(t, spans, first, firstSpan)
	attempts := spans.named(first, "attempt")
	failed, ok := attempts[0], attempts[1]
	if attribute(failed, "http.response.status_code") != "500" || failed.GetStatus().GetMessage() != "http_5xx" || attribute(ok, "fanfare.attempt") != "2" {
		t.Errorf("attempts: %v, %v", failed, ok)
	}
	for i, s := range attempts {
		if got, want := received.at("/flaky")[i], "00-"+first+"-"+hex.EncodeToString(s.GetSpanId())+"-01"; got != want {
			t.Errorf("attempt %d: the receiver got %q, want %q", i+1, got, want)
		}
	}

	// Over NATS.
	const second, secondSpan = "11111111111111111111111111111111", "2222222222222222"
	nc, err := nats.Connect(at.NATS)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	msg := nats.NewMsg("events.acme.once.created")
	msg.Data = []byte(`{}`)
	msg.Header.Set("traceparent", "00-"+second+"-"+secondSpan+"-01")
	if _, err := js.PublishMsg(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	await(t, "the attempt is traced", func() bool { return len(spans.named(second, "attempt")) == 1 })
	await(t, "its match is traced", func() bool { return len(spans.named(second, "match")) > 0 })
	if match := spans.named(second, "match"); len(match) != 1 || hex.EncodeToString(match[0].GetParentSpanId()) != secondSpan {
		t.Errorf("match continues %v", match)
	}

	// Many at once: each in its own trace, with a link from the request's.
	const third = "33333333333333333333333333333333"
	publish("application/cloudevents-batch+json", `[{"specversion":"1.0","id":"1","source":"urn:a","type":"other","traceparent":"00-`+third+`-4444444444444444-01"},
		{"specversion":"1.0","id":"2","source":"urn:a","type":"other"}]`, "")
	await(t, "the batch is traced", func() bool { return len(spans.named(third, "match")) == 1 && linked(spans, "publish", third) != nil })

	// Sent again: a new trace with a link to the event's.
	var list struct{ Data []struct{ ID string } }
	await(t, "the delivery is in the ledger", func() bool {
		call(t, c, "GET /v1/deliveries?tenant=acme&event=evt_1&state=delivered", nil, &list)
		return len(list.Data) == 1
	})
	call(t, c, "POST /v1/deliveries/"+list.Data[0].ID+"/retry?tenant=acme", nil, nil)
	await(t, "the resend is traced", func() bool { return linked(spans, "attempt", first) != nil })
	if again := linked(spans, "attempt", first); hex.EncodeToString(again.GetTraceId()) == first || len(again.GetParentSpanId()) > 0 {
		t.Errorf("the resend continues the trace of its event: %v", again)
	}

	// A trace that its publisher does not keep makes no spans.
	const unsampled = "00-55555555555555555555555555555555-6666666666666666-00"
	publish("application/json", `{"type":"once.created","data":{}}`, unsampled)
	await(t, "it is delivered", func() bool { return len(received.at("/once")) == 2 })
	if got := received.at("/once")[1]; got != unsampled {
		t.Errorf("the receiver got %q, want %q", got, unsampled)
	}
	p.stop()
	for _, name := range []string{"publish", "match", "task", "attempt"} {
		if n := len(spans.named(strings.Split(unsampled, "-")[1], name)); n > 0 {
			t.Errorf("%d spans %s of a trace that is not sampled", n, name)
		}
	}
}

// follow checks that each step continues the one before.
func follow(t *testing.T, spans *collected, trace, parent string) {
	t.Helper()
	for _, name := range []string{"publish", "match", "task"} {
		await(t, name+" is traced", func() bool { return len(spans.named(trace, name)) == 1 })
		s := spans.named(trace, name)[0]
		if got := hex.EncodeToString(s.GetParentSpanId()); got != parent {
			t.Errorf("%s continues %s, want %s", name, got, parent)
		}
		if attribute(s, "fanfare.tenant") != "acme" || attribute(s, "fanfare.event.id") != "evt_1" {
			t.Errorf("%s says %v", name, s.GetAttributes())
		}
		parent = hex.EncodeToString(s.GetSpanId())
	}
	if got := hex.EncodeToString(spans.named(trace, "attempt")[0].GetParentSpanId()); got != parent {
		t.Errorf("the first attempt continues %s, want %s", got, parent)
	}
}

// linked returns the span of a name with a link to a trace.
func linked(spans *collected, name, to string) *otlp.Span {
	for _, s := range spans.named("", name) {
		for _, link := range s.GetLinks() {
			if hex.EncodeToString(link.GetTraceId()) == to {
				return s
			}
		}
	}
	return nil
}
