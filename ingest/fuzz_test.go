package ingest_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/fanfarehq/fanfare/ingest"
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
		events, problems, err := ingest.Read(http.Header{"Content-Type": {media}}, bytes.Clone(body), 5)
		if err != nil {
			return
		}
		if len(events) > 5 {
			t.Errorf("%d events of at most 5", len(events))
		}
		for i, e := range events {
			if problems[i] != nil {
				if problems[i].Status < 400 || len(problems[i].Errors) == 0 || len(problems[i].Errors) > 10 {
					t.Errorf("the problem is %+v", problems[i])
				}
				if _, err := json.Marshal(problems[i]); err != nil {
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
