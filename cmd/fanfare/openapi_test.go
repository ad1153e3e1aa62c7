package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// The document is valid OpenAPI 3.1, and says of every operation what it does, with examples and errors.
func testDocument(t *testing.T, d *deployment) {
	parsed, err := openapi3.NewLoader().LoadFromData(d.doc.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(parsed.OpenAPI, "3.1") {
		t.Errorf("it is OpenAPI %s", parsed.OpenAPI)
	}
	if err := parsed.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	seen := map[string]bool{}
	for _, o := range d.doc.Operations {
		if seen[o.ID] {
			t.Errorf("%s: the id is another operation's", o)
		}
		seen[o.ID] = true
		if o.Summary == "" || o.Description == "" || o.Scope == "" {
			t.Errorf("%s: summary %q, description %q, scope %q: none may be missing", o, o.Summary, o.Description, o.Scope)
		}
		for _, p := range o.Parameters {
			if p.Description == "" {
				t.Errorf("%s: the parameter %s has no description", o, p.Name)
			}
		}
		if _, ok := o.Responses["default"].Content["application/problem+json"]; !ok {
			t.Errorf("%s: other errors are not described as problems", o)
		}
		if !d.doc.exemplified(o) {
			t.Errorf("%s: nothing of it has an example", o)
		}
		for _, at := range d.doc.unbounded(o) {
			t.Errorf("%s: the list or map %s has no maxItems or maxProperties", o, at)
		}
		want := []string{"400", "401", "403", "429", "500", "503"}
		if len(o.pathNames()) > 0 {
			want = append(want, "404")
		}
		if o.RequestBody != nil {
			want = append(want, "413", "415", "422")
			for kind, content := range o.RequestBody.Content {
				if len(content.Example) == 0 {
					t.Errorf("%s: the body %s has no example", o, kind)
				}
			}
		}
		for _, status := range want {
			if _, ok := o.Responses[status].Content["application/problem+json"]; !ok {
				t.Errorf("%s: %s is not described as a problem", o, status)
			}
		}
	}
}

// docs/openapi.json is what `fanfare openapi` prints without settings.
func TestTheSnapshotOfTheDocumentIsCurrent(t *testing.T) {
	t.Parallel()
	var out, errs strings.Builder
	if code := run([]string{"openapi"}, &out, &errs); code != exitOK {
		t.Fatalf("fanfare openapi: %d %s", code, errs.String())
	}
	snapshot, err := os.ReadFile("../../docs/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(snapshot) {
		t.Error("docs/openapi.json is not current: run make generate")
	}
}

// The document is what generators of clients need: named bodies with JSON first, closed sets, ids that are UUIDs, declared tags,
// and components that are named as people speak of them, all of which something refers to.
func testGenerators(t *testing.T, d *deployment) {
	text := string(d.doc.Raw)
	for name := range d.doc.Schemas {
		for _, ending := range []string{"JSON", "Body", "Input", "Output", "Model", "Response"} {
			if strings.HasSuffix(name, ending) {
				t.Errorf("the component %s is named after Go code", name)
			}
		}
		if !strings.Contains(text, `"#/components/schemas/`+name+`"`) {
			t.Errorf("nothing refers to the component %s", name)
		}
	}
	tags := map[string]bool{}
	var parsed struct {
		Tags []struct{ Name, Description string }
	}
	if err := json.Unmarshal(d.doc.Raw, &parsed); err != nil {
		t.Fatal(err)
	}
	for _, tag := range parsed.Tags {
		tags[tag.Name] = tag.Description != ""
	}
	for _, o := range d.doc.Operations {
		for _, tag := range o.Tags {
			if !tags[tag] {
				t.Errorf("%s: the tag %s is not declared with a description", o, tag)
			}
		}
		for _, p := range o.Parameters {
			if p.In == "path" && p.Name == "id" && p.Schema.Format != "uuid" && !strings.HasPrefix(o.Path, "/v1/events/") && !strings.HasPrefix(o.Path, "/v1/keys/") {
				t.Errorf("%s: the id in the path is no UUID", o)
			}
		}
		if o.RequestBody == nil {
			continue
		}
		if body := o.RequestBody.Content["application/json"].Schema; body == nil || body.Ref == "" {
			t.Errorf("%s: the JSON body is no named component", o)
		}
	}
	for _, body := range regexp.MustCompile(`"requestBody": \{\s+"content": \{\s+"([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if body[1] != "application/json" {
			t.Errorf("the first media type of a body is %s", body[1])
		}
	}
	for _, want := range []struct {
		component, property string
	}{
		{"Subscription", "status"}, {"Subscription", "payload_format"}, {"Subscription", "dialect"}, {"Subscription", "signing"},
		{"NewSubscription", "status"}, {"NewSubscription", "payload_format"}, {"NewSubscription", "signing"},
		{"Delivery", "state"}, {"Delivery", "reason"}, {"QuarantinedMessage", "reason"}, {"Auth", "type"}, {"NewAuth", "type"},
		{"Subscription", "disabled_reason"}, {"DisabledSubscription", "reason"}, {"Failure", "reason"}, {"Reason", "reason"}, {"Process", "role"},
	} {
		if s := d.doc.Schemas[want.component]; s == nil || s.Properties[want.property] == nil || len(d.doc.words(s.Properties[want.property])) == 0 {
			t.Errorf("%s.%s has no enum", want.component, want.property)
		}
	}
	if got, want := fmt.Sprint(d.doc.words(d.doc.Schemas["Process"].Properties["role"])), fmt.Sprint([]role{roleAll, roleAPI, roleIngest, roleFanout, roleDeliver}); got != want {
		t.Errorf("the roles are %s, want %s", got, want)
	}
}

// words are the values that a property may have, null aside.
func (d *document) words(s *schema) []any {
	if s = d.resolve(s); len(s.AnyOf) > 0 {
		s = d.resolve(s.AnyOf[0])
	}
	return s.Enum
}

// exemplified says whether a parameter, the body or the answer of an operation has an example.
func (d *document) exemplified(o *operation) bool {
	for _, p := range o.Parameters {
		if p.Example != nil || d.hasExample(p.Schema, 0) {
			return true
		}
	}
	if o.RequestBody != nil {
		return true // Each of its bodies is looked at by itself.
	}
	for status, response := range o.Responses {
		for _, content := range response.Content {
			if strings.HasPrefix(status, "2") && (len(content.Example) > 0 || d.hasExample(content.Schema, 0)) {
				return true
			}
		}
	}
	return false
}

// hasExample looks for an example in a schema and what is in it, some levels deep.
func (d *document) hasExample(s *schema, depth int) bool {
	if s = d.resolve(s); s == nil || depth > 4 {
		return false
	}
	if s.Example != nil || len(s.Examples) > 0 || d.hasExample(s.Items, depth+1) {
		return true
	}
	for _, property := range s.Properties {
		if d.hasExample(property, depth+1) {
			return true
		}
	}
	return false
}

var outside = regexp.MustCompile(`(?:src|href|action)\s*=\s*["']?(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import`)

// The page that shows the document needs nothing from elsewhere, and may load nothing from there.
func testDocs(t *testing.T, d *deployment) {
	for _, path := range []string{"/docs", "/docs/start.js", "/docs/swagger-ui.css"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.at.API+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := d.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("GET %s: %d, %v", path, resp.StatusCode, err)
		}
		if found := outside.Find(text); found != nil {
			t.Errorf("%s refers to the outside: %s", path, found)
		}
		policy := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "http") || strings.Contains(policy, "*") {
			t.Errorf("%s may load from elsewhere: %q", path, policy)
		}
	}
}

// shown is a call that a document names, such as `POST /v1/subscriptions/{id}/replay`.
var shown = regexp.MustCompile("`(GET|POST|PUT|PATCH|DELETE) (/v1/[a-z/{}-]+)`")

// The calls that the documents name are served. Decisions may name others: those of the past, and rejected ones.
func testShown(t *testing.T, d *deployment) {
	served := map[string]bool{}
	for _, o := range d.doc.Operations {
		served[o.Method+" "+o.Path] = true
	}
	for file, text := range documents(t) {
		if strings.HasPrefix(file, "docs/decisions/") {
			continue
		}
		for _, call := range shown.FindAllStringSubmatch(text, -1) {
			if !served[call[1]+" "+call[2]] {
				t.Errorf("%s shows %s %s, which is not served", file, call[1], call[2])
			}
		}
	}
}

// unbounded returns where a caller may send a list or a map of any length.
func (d *document) unbounded(o *operation) (at []string) {
	for _, p := range o.Parameters {
		at = append(at, d.unboundedIn(p.Schema, p.Name, 0)...)
	}
	if o.RequestBody != nil {
		for kind, content := range o.RequestBody.Content {
			at = append(at, d.unboundedIn(content.Schema, kind, 0)...)
		}
	}
	return at
}

func (d *document) unboundedIn(s *schema, name string, depth int) (at []string) {
	if s = d.resolve(s); s == nil || depth > 8 {
		return nil
	}
	list := s.Items != nil && s.MaxItems == nil
	isMap := len(s.AdditionalProperties) > 0 && s.AdditionalProperties[0] == '{' && s.MaxProperties == nil
	if list || isMap {
		at = append(at, name)
	}
	at = append(at, d.unboundedIn(s.Items, name+"[]", depth+1)...)
	for _, one := range append(s.OneOf, s.AnyOf...) {
		at = append(at, d.unboundedIn(one, name, depth+1)...)
	}
	for property, below := range s.Properties {
		at = append(at, d.unboundedIn(below, name+"."+property, depth+1)...)
	}
	return at
}
