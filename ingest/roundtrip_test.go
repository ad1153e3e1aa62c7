package ingest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"

	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/event"
)

// What a CloudEvent says of itself reaches its receivers as it was, whichever mode it came in.
func TestCloudEventsComeOutAsTheyWentIn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for mode, send := range map[string]func(cloudevents.Event) *http.Request{
		"binary": func(e cloudevents.Event) *http.Request {
			return h.cloudRequest(binding.WithForceBinary(t.Context()), e)
		},
		"structured": func(e cloudevents.Event) *http.Request {
			return h.cloudRequest(binding.WithForceStructured(t.Context()), e)
		},
		"batch": func(e cloudevents.Event) *http.Request {
			req, err := cehttp.NewHTTPRequestFromEvents(t.Context(), h.url+"/v1/events", []cloudevents.Event{e})
			if err != nil {
				t.Fatal(err)
			}
			return req
		},
	} {
		for name, sent := range cloudSamples(t, mode) {
			req := send(sent)
			req.Header.Set("Authorization", "Bearer acme")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || res.StatusCode != http.StatusAccepted || !bytes.Contains(body, []byte(event.CloudID(sent.Source(), sent.ID()))) {
				t.Fatalf("%s, %s: answered %d %s, error %v", mode, name, res.StatusCode, body, err)
			}
			got := h.lastAsCloudEvent()
			if diff := difference(sent, got); diff != "" {
				t.Errorf("%s, %s: sent\n%s\nreceived\n%s\n%s", mode, name, sent, got, diff)
			}
		}
	}
}

// cloudSamples are CloudEvents, of a source of their own.
func cloudSamples(t *testing.T, source string) map[string]cloudevents.Event {
	t.Helper()
	made := func(id string, data func(*cloudevents.Event) error) cloudevents.Event {
		e := cloudevents.NewEvent()
		e.SetID(id)
		e.SetSource("urn:" + source)
		e.SetType("order.created")
		if err := data(&e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	whole := made("partition:0/offset:1", func(e *cloudevents.Event) error {
		return e.SetData(cloudevents.ApplicationJSON, map[string]any{"total": 12.5})
	})
	whole.SetTime(time.Date(2026, 11, 20, 10, 0, 0, 123000000, time.UTC))
	whole.SetSubject(`größe "4" 100%`)
	whole.SetDataSchema("https://example.com/schema?a=1#b")
	whole.SetExtension("comexample", "ein Wert")
	whole.SetExtension("number", 17)
	whole.SetExtension("digits", "17")
	whole.SetExtension("sampled", true)
	whole.SetExtension("changed", "status,total")
	whole.SetExtension("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	least := made("1", func(*cloudevents.Event) error { return nil })
	text := made("text", func(e *cloudevents.Event) error { return e.SetData(cloudevents.TextPlain, "größe \"4\"") })
	xml := made("xml", func(e *cloudevents.Event) error { return e.SetData("application/xml", []byte("<a/>")) })
	raw := made("raw", func(e *cloudevents.Event) error {
		return e.SetData("application/octet-stream", []byte{0, 0xff, '"', '\n'})
	})
	return map[string]cloudevents.Event{"whole": whole, "least": least, "text": text, "xml": xml, "raw": raw}
}

func (h *house) cloudRequest(ctx context.Context, e cloudevents.Event) *http.Request {
	h.T.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+"/v1/events", nil)
	if err != nil {
		h.T.Fatal(err)
	}
	if err := cehttp.WriteRequest(ctx, binding.ToMessage(&e), req); err != nil {
		h.T.Fatal(err)
	}
	return req
}

// lastAsCloudEvent renders the last event of the stream as a receiver of the payload format cloudevents gets it.
func (h *house) lastAsCloudEvent() cloudevents.Event {
	h.T.Helper()
	all := h.stored()
	e, refusal := event.Decode(event.Stored(all[len(all)-1]))
	if refusal != nil {
		h.T.Fatal(refusal)
	}
	var got cloudevents.Event
	for _, f := range webhook.Formats() {
		if f.Name != "cloudevents" {
			continue
		}
		body, err := f.Body(e)
		if err != nil {
			h.T.Fatal(err)
		}
		if err := json.Unmarshal(body, &got); err != nil {
			h.T.Fatalf("%v in %s", err, body)
		}
	}
	if err := got.Validate(); err != nil {
		h.T.Error(err)
	}
	return got
}

// difference compares two CloudEvents attribute by attribute. In binary mode numbers and booleans are text, as headers are, and
// an event without a time gets one.
func difference(a, b cloudevents.Event) string {
	if a.Time().IsZero() {
		b.SetTime(time.Time{})
	}
	text := func(e cloudevents.Event) map[string]any {
		m := map[string]any{
			"id": e.ID(), "source": e.Source(), "type": e.Type(), "subject": e.Subject(), "dataschema": e.DataSchema(),
			"datacontenttype": e.DataContentType(), "time": e.Time().String(), "data": string(e.Data()),
		}
		maps.Copy(m, e.Extensions())
		return m
	}
	x, y := text(a), text(b)
	for name := range maps.Keys(x) {
		if x[name] != y[name] && !(a.Source() == "urn:binary" && (name == "number" || name == "sampled")) {
			return name + " differs"
		}
	}
	if len(x) != len(y) {
		return "there are other attributes"
	}
	return ""
}
