package ingest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestTheDocumentDescribesPublishing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	res, err := http.Get(h.url + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	type media struct {
		Schema  json.RawMessage
		Example json.RawMessage
	}
	type operation struct {
		Description string
		Parameters  []struct{ Name, In string }
		RequestBody struct{ Content map[string]media }
		Responses   map[string]struct {
			Ref     string `json:"$ref"`
			Content map[string]media
		}
		Scope string `json:"x-scope"`
	}
	var doc struct {
		Paths      map[string]map[string]operation
		Components struct {
			Schemas   map[string]json.RawMessage
			Responses map[string]struct{ Content map[string]media }
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	op := doc.Paths["/v1/events"]["post"]
	if op.Scope != "events:write" || op.Description == "" || len(op.Parameters) != 2 {
		t.Errorf("the operation has scope %q, description %.20q, parameters %v", op.Scope, op.Description, op.Parameters)
	}
	for _, name := range []string{"application/json", "application/x-ndjson", "application/cloudevents+json", "application/cloudevents-batch+json"} {
		m := op.RequestBody.Content[name]
		if len(m.Schema) == 0 || len(m.Example) == 0 {
			t.Errorf("%s has schema %s and example %s", name, m.Schema, m.Example)
			continue
		}
		// The example does what it shows.
		body := string(m.Example)
		if name == "application/x-ndjson" {
			if err := json.Unmarshal(m.Example, &body); err != nil {
				t.Fatal(err)
			}
		}
		body = strings.ReplaceAll(body, "evt_17", "evt_"+strings.Trim(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return r
			}
			return -1
		}, name), " "))
		if a := h.post("acme", "/v1/events", body, "Content-Type", name); a.status != http.StatusAccepted || strings.Contains(a.body, `"error"`) {
			t.Errorf("the example of %s is answered %d %s", name, a.status, a.body)
		}
	}
	for _, status := range []string{"202", "400", "401", "403", "408", "409", "413", "415", "422", "503"} {
		content := op.Responses[status].Content
		if ref := op.Responses[status].Ref; ref != "" {
			content = doc.Components.Responses[strings.TrimPrefix(ref, "#/components/responses/")].Content
		}
		want := "application/problem+json"
		if status == "202" {
			want = "application/json"
		}
		if len(content[want].Schema) == 0 {
			t.Errorf("status %s is not described", status)
		}
	}
	for _, ref := range strings.Split(string(text), `"$ref":"#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(ref, `"`)
		if doc.Components.Schemas[name] == nil {
			t.Errorf("schema %s is referred to and not there", name)
		}
	}
	test := doc.Paths["/v1/subscriptions/{id}/test"]["post"]
	if test.Scope != "subscriptions:write" || !slices.Contains(keysOf(test.Responses), "202") || !slices.Contains(keysOf(test.Responses), "409") {
		t.Errorf("testing has scope %q and answers %v", test.Scope, keysOf(test.Responses))
	}
}

func keysOf[V any](m map[string]V) (all []string) {
	for key := range m {
		all = append(all, key)
	}
	return all
}
