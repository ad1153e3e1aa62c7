package ingest_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/event"
)

// TestTheCloudEventsClient publishes with the client of the official SDK.
func TestTheCloudEventsClient(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	client, err := cloudevents.NewClientHTTP(cloudevents.WithTarget(h.url+"/v1/events"), cehttp.WithHeader("Authorization", "Bearer acme"))
	if err != nil {
		t.Fatal(err)
	}
	made := func(id string) cloudevents.Event {
		e := cloudevents.NewEvent()
		e.SetID(id)
		e.SetSource("/shop")
		e.SetType("order.created")
		e.SetSubject("o 17, große")
		e.SetTime(time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC))
		e.SetExtension("changed", "status,total")
		e.SetExtension("comexample", 5)
		if err := e.SetData(cloudevents.ApplicationJSON, map[string]any{"total": 12.5}); err != nil {
			t.Fatal(err)
		}
		return e
	}
	for id, ctx := range map[string]context.Context{
		"binary": cloudevents.WithEncodingBinary(t.Context()), "structured": cloudevents.WithEncodingStructured(t.Context()),
	} {
		e := made(id)
		e.SetSubject("o_17")
		if result := client.Send(ctx, e); !cloudevents.IsACK(result) {
			t.Errorf("%s: %v", id, result)
		}
	}
	req, err := cehttp.NewHTTPRequestFromEvents(t.Context(), h.url+"/v1/events", []cloudevents.Event{noSubject(made("batch1")), noSubject(made("batch2")), made("bad")})
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer acme")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		t.Errorf("the batch is answered %d", res.StatusCode)
	}
	byID := map[string]*natsjs.RawStreamMsg{}
	for _, m := range h.stored() {
		byID[strings.TrimPrefix(m.Header.Get("Nats-Msg-Id"), "acme.")] = m
	}
	if len(byID) != 4 {
		t.Fatalf("%d events are stored, want 4: the subject of one has a comma", len(byID))
	}
	batch := map[string]bool{event.CloudID("/shop", "batch1"): true, event.CloudID("/shop", "batch2"): true}
	for id, m := range byID {
		if m.Subject != "events.acme.order.created" || string(m.Data) != `{"total":12.5}` || m.Header.Get(event.HeaderChanged) != "status,total" ||
			m.Header.Get(event.HeaderTime) != "2026-11-20T10:00:00Z" {
			t.Errorf("%s is stored as %s %v %s", id, m.Subject, m.Header, m.Data)
		}
		if !batch[id] && m.Header.Get(event.HeaderObjectID) != "o_17" {
			t.Errorf("%s is about %q", id, m.Header.Get(event.HeaderObjectID))
		}
	}
}

func noSubject(e cloudevents.Event) cloudevents.Event {
	e.SetSubject("")
	return e
}

// TestBinaryHeadersAreDecoded sends what the SDK percent-encodes, and lists in two lines.
func TestBinaryHeadersAreDecoded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	e := cloudevents.NewEvent()
	e.SetID("e")
	e.SetSource("/shop")
	e.SetType("order.created")
	e.SetSubject("größe 4")
	if err := e.SetData(cloudevents.ApplicationJSON, 1); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := cehttp.WriteRequest(binding.WithForceBinary(t.Context()), binding.ToMessage(&e), req); err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", "acme")
	req.Header["Ce-Resourceids"], req.Header["Ce-Changed"] = []string{"a", "b"}, []string{"x", "y"}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	all := h.stored()
	if len(all) != 1 || all[0].Header.Get(event.HeaderObjectID) != "größe 4" || all[0].Header.Get(event.HeaderResourceIDs) != "a,b" ||
		all[0].Header.Get(event.HeaderChanged) != "x,y" {
		t.Errorf("answered %d, stored %v", res.StatusCode, all)
	}
}

func TestCloudEventsByHand(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const structured, batch = "application/cloudevents+json", "application/cloudevents-batch+json"
	head := `"specversion":"1.0","id":"ID","source":"/shop","type":"a"`
	for i, test := range []struct {
		name, media, body string
		headers           []string
		status            int
		at                string
		data              string
	}{
		{name: "no data", media: structured, body: `{` + head + `}`, status: 202, data: `null`},
		{name: "null data", media: structured, body: `{` + head + `,"data":null}`, status: 202, data: `null`},
		{name: "exact data", media: structured, body: `{` + head + `,"data":{ "a":1.0 }}`, status: 202, data: `{ "a":1.0 }`},
		{name: "base64", media: structured, body: `{` + head + `,"data_base64":"eyJhIjoxfQ=="}`, status: 202, data: `{"a":1}`},
		{name: "media of vendors", media: structured, body: `{` + head + `,"datacontenttype":"application/vnd.x+json; charset=utf-8","data":1}`, status: 202, data: `1`},
		{name: "extensions", media: structured, body: `{` + head + `,"ext":true,"ext2":-5,"ext3":null,"tenant":"acme","data":1}`, status: 202, data: `1`},
		{name: "base64 of no JSON", media: structured, body: `{` + head + `,"data_base64":"eyJhI"}`, status: 422, at: "body.data_base64"},
		{name: "base64 of bad JSON", media: structured, body: `{` + head + `,"data_base64":"eyI="}`, status: 422, at: "body.data"},
		{name: "both data", media: structured, body: `{` + head + `,"data":1,"data_base64":"MQ=="}`, status: 422, at: "body.data_base64"},
		{name: "xml", media: structured, body: `{` + head + `,"datacontenttype":"application/xml","data":"<a b=\"1\"/>"}`, status: 202, data: `<a b="1"/>`},
		{name: "xml that is no text", media: structured, body: `{` + head + `,"datacontenttype":"application/xml","data":{}}`, status: 422, at: "body.data"},
		{name: "bytes", media: structured, body: `{` + head + `,"data_base64":"AP8=","datacontenttype":"application/octet-stream"}`, status: 202, data: "\x00\xff"},
		{name: "no data of XML", media: structured, body: `{` + head + `,"datacontenttype":"text/xml"}`, status: 202, data: ``},
		{name: "no media type", media: structured, body: `{` + head + `,"datacontenttype":"a b","data":"1"}`, status: 422, at: "body.datacontenttype"},
		{name: "both data the other way round", media: structured, body: `{` + head + `,"data_base64":"MQ==","data":1}`, status: 422, at: "body.data_base64"},
		{name: "subject", media: structured, body: `{` + head + `,"subject":"a,b","data":1}`, status: 422, at: "body.subject"},
		{name: "resource ids", media: structured, body: `{` + head + `,"resourceids":"a,` + strings.Repeat("b", 300) + `","data":1}`, status: 422, at: "body.resourceids[1]"},
		{name: "long id", media: structured, body: `{"specversion":"1.0","id":"` + strings.Repeat("x", 257) + `","source":"/","type":"a","data":1}`, status: 422, at: "body.id"},
		{name: "control character", media: structured, body: `{` + head + `,"ext":"a\u0001","data":1}`, status: 422, at: "body.ext"},
		{name: "reserved type", media: structured, body: `{"specversion":"1.0","id":"ID","source":"/shop","type":"fanfare.a","data":1}`, status: 422, at: "body.type"},
		{name: "lower-case time", media: structured, body: `{` + head + `,"time":"2026-11-20t10:00:60z","data":1}`, status: 202, data: `1`},
		{name: "no version", media: structured, body: `{"id":"ID","source":"/","type":"a","data":1}`, status: 422, at: "body.specversion"},
		{name: "old version", media: structured, body: `{"specversion":"0.3","id":"ID","source":"/","type":"a","data":1}`, status: 422, at: "body.specversion"},
		{name: "no source", media: structured, body: `{"specversion":"1.0","id":"ID","type":"a","data":1}`, status: 422, at: "body.source"},
		{name: "no id", media: structured, body: `{"specversion":"1.0","source":"/","type":"a","data":1}`, status: 422, at: "body.id"},
		{name: "bad name", media: structured, body: `{` + head + `,"Ext_1":1,"data":1}`, status: 422, at: "body.Ext_1"},
		{name: "attribute of an object", media: structured, body: `{` + head + `,"ext":{},"data":1}`, status: 422, at: "body.ext"},
		{name: "bad time", media: structured, body: `{` + head + `,"time":"now","data":1}`, status: 422, at: "body.time"},
		{name: "another tenant", media: structured, body: `{` + head + `,"tenant":"globex","data":1}`, status: 403},
		{name: "array as structured", media: structured, body: `[{` + head + `}]`, status: 422, at: "body"},
		{name: "deep", media: structured, body: `{` + head + `,"data":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`, status: 422, at: "body.data"},
		{name: "batch", media: batch, body: `[{` + head + `,"data":1}]`, status: 202, data: `1`},
		{name: "object as batch", media: batch, body: `{` + head + `}`, status: 422, at: "body"},
		{name: "binary", media: "application/json", headers: []string{"ce-specversion", "1.0", "ce-id", "ID", "ce-source", "/", "ce-type", "a"}, body: ` {"a":1} `, status: 202, data: ` {"a":1} `},
		{name: "binary of vendors", media: "application/vnd.x+json", headers: []string{"ce-specversion", "1.0", "ce-id", "ID", "ce-source", "/", "ce-type", "a"}, body: `1`, status: 202, data: `1`},
		{name: "binary without body", media: "application/json", headers: []string{"ce-specversion", "1.0", "ce-id", "ID", "ce-source", "/", "ce-type", "a"}, status: 202, data: `null`},
		{name: "binary of bad JSON", media: "application/json", headers: []string{"ce-specversion", "1.0", "ce-id", "ID", "ce-source", "/", "ce-type", "a"}, body: `{`, status: 422, at: "body"},
		{name: "binary without source", media: "application/json", headers: []string{"ce-specversion", "1.0", "ce-id", "ID", "ce-type", "a"}, body: `1`, status: 422, at: "header.ce-source"},
		{name: "binary of bad type", media: "application/json", headers: []string{"ce-specversion", "1.0", "ce-id", "ID", "ce-source", "/", "ce-type", "a b"}, body: `1`, status: 422, at: "header.ce-type"},
		{name: "binary of XML", media: "text/xml", headers: []string{"ce-specversion", "1.0", "ce-id", "ID", "ce-source", "/", "ce-type", "a"}, body: `<a/>`, status: 202, data: `<a/>`},
		{name: "other form of CloudEvents", media: "application/cloudevents+avro", headers: []string{"ce-specversion", "1.0"}, body: `1`, status: 415},
	} {
		t.Run(test.name, func(t *testing.T) {
			id := strings.Repeat("x", i+1)
			headers := []string{"Content-Type", test.media}
			for _, v := range test.headers {
				headers = append(headers, strings.ReplaceAll(v, "ID", id))
			}
			before := len(h.stored())
			a := h.post("acme", "/v1/events", strings.ReplaceAll(test.body, "ID", id), headers...)
			if a.status != test.status {
				t.Fatalf("answered %d %s, want %d", a.status, a.body, test.status)
			}
			if test.at != "" && !at(a.problem(t), test.at) {
				t.Errorf("the problem is %s, want %s", a.body, test.at)
			}
			all := h.stored()
			if test.status != http.StatusAccepted {
				if len(all) != before {
					t.Error("it was stored")
				}
				return
			}
			if m := all[len(all)-1]; string(m.Data) != test.data || !slices.Contains([]string{"acme." + event.CloudID("/shop", id), "acme." + event.CloudID("/", id)}, m.Header.Get("Nats-Msg-Id")) {
				t.Errorf("stored %s as %s, want %s as %s", m.Data, m.Header.Get("Nats-Msg-Id"), test.data, id)
			}
		})
	}
}
