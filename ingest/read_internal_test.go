// Reading a request is a rule of its own: to fuzz it through a server would cover less in the same time.

package ingest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fanfarehq/fanfare/internal/event"
)

// FuzzRead holds what is read of any body against what must be true of it.
func FuzzRead(f *testing.F) {
	for _, media := range []string{"application/json", "application/x-ndjson", "application/cloudevents+json", "application/cloudevents-batch+json"} {
		for _, body := range []string{
			`{"type":"order.created","data":{"order":"o_17","total":12.5},"id":"evt_17","time":"2026-11-20T10:00:00Z","tenant":"acme","resource_ids":["123"],"object_id":"o_17","changed":["status"],"targets":["0198c9d2-e7b3-7c1f-9a55-0d2f3c4b5a69"]}`,
			`[{"type":"a","data":1},{"type":"b","data":[]} ]`, `{"specversion":"1.0","id":"e","source":"/","type":"a","data_base64":"MQ=="}`,
			`[{"specversion":"1.0","id":"e","source":"/","type":"a","data": null , "x":5}]`, "{\"type\":\"a\",\"data\":1}\n\n{", `{"type":"a","data":` + strings.Repeat("[", 70),
		} {
			f.Add(media, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, media string, body []byte) {
		req, err := read(http.Header{"Content-Type": {media}}, bytes.Clone(body), 5)
		if err != nil {
			return
		}
		if len(req.items) > 5 {
			t.Errorf("%d events of at most 5", len(req.items))
		}
		for _, it := range req.items {
			e, problem := it.event, it.problem
			if problem != nil {
				if problem.Status < 400 || len(problem.Errors) == 0 || len(problem.Errors) > 10 {
					t.Errorf("the problem is %+v", problem)
				}
				if _, err := json.Marshal(problem); err != nil {
					t.Error(err)
				}
				continue
			}
			// Data that was part of the JSON is JSON within the bounds, and a piece of the body.
			if e.Data == nil || e.Type == "" {
				t.Errorf("an event lacks something: %+v", e)
			}
			if media == "application/json" && (!jsontext.Value(e.Data).IsValid() || !bytes.Contains(body, e.Data) || event.Nesting(e.Data) > event.MaxNesting) {
				t.Errorf("the data of %q is %q", body, e.Data)
			}
		}
	})
}

// BenchmarkRead reads arrays of 100 events: the figure is for one array.
func BenchmarkRead(b *testing.B) {
	one := `{"type":"order.created","data":{"text":"` + strings.Repeat("x", 1000) + `"}}`
	body := []byte("[" + one + strings.Repeat(","+one, 99) + "]")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := read(http.Header{}, body, 1000); err != nil {
			b.Fatal(err)
		}
	}
}
