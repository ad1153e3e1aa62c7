package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
)

var current = thing{
	Name: "a", URL: "u", Tags: []string{"x"}, Limits: &limits{Max: 3, Label: "l"}, Metadata: map[string]string{"a": "1", "b": "2"}, Kind: "big",
}

func patches(a huma.API) {
	huma.Register(a, op("PATCH", "/v1/things/{id}", api.Scope("things:write")), func(_ context.Context, in *struct {
		ID string `path:"id"`
		api.Precondition
		Body api.Patch[thing]
	}) (*thingOut, error) {
		if err := in.Check(api.ETag(current)); err != nil {
			return nil, err
		}
		next, err := in.Body.Apply(current)
		return &thingOut{ETag: api.ETag(next), Body: next}, err
	})
}

func TestMergePatch(t *testing.T) {
	t.Parallel()
	h := serve(t, patches)
	for patch, change := range map[string]func(*thing){
		`{}`:                              func(*thing) {},
		`{"name":"b"}`:                    func(t *thing) { t.Name = "b" },
		`{"tags":null}`:                   func(t *thing) { t.Tags = nil },
		`{"tags":["y","z"]}`:              func(t *thing) { t.Tags = []string{"y", "z"} },
		`{"limits":null,"kind":null}`:     func(t *thing) { t.Limits, t.Kind = nil, "" },
		`{"limits":{"max":9}}`:            func(t *thing) { t.Limits = &limits{Max: 9, Label: "l"} },
		`{"limits":{"label":null}}`:       func(t *thing) { t.Limits = &limits{Max: 3} },
		`{"metadata":{"a":null,"c":"3"}}`: func(t *thing) { t.Metadata = map[string]string{"b": "2", "c": "3"} },
		`{"metadata":null}`:               func(t *thing) { t.Metadata = nil },
		`{"wait":"5s"}`:                   func(t *thing) { t.Wait = 5e9 },
	} {
		want := current
		change(&want)
		for _, contentType := range []string{"application/json", "application/merge-patch+json"} {
			a := h.call(t, "acme", "PATCH /v1/things/x", patch, "Content-Type", contentType)
			var got thing
			if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: want %+v, got %d %s", patch, want, a.status, a.body)
			}
		}
	}
}

func TestMergePatchRefuses(t *testing.T) {
	t.Parallel()
	h := serve(t, patches)
	for patch, want := range map[string]string{
		`{"name":null}`:              "body.name",
		`{"name":""}`:                "body.name",
		`{"name":1}`:                 "body.name",
		`{"status":"x"}`:             "body.status",
		`{"id":"x"}`:                 "body.id",
		`{"tags":["1","2","3","4"]}`: "body.tags",
		`{"limits":{"max":null}}`:    "body.limits.max",
		`{"limits":{"max":0}}`:       "body.limits.max",
		`{"limits":{"min":0}}`:       "body.limits.min",
		`{"metadata":{"a":1}}`:       "body.metadata.a",
		`{"kind":"middle"}`:          "body.kind",
		`{"wait":"soon"}`:            "body.wait",
		`[]`:                         "body",
		`null`:                       "body",
		`"x"`:                        "body",
	} {
		if a := h.call(t, "acme", "PATCH /v1/things/x", patch); a.status != 422 || a.locations() != want {
			t.Errorf("%s: want 422 %s, got %d %s %s", patch, want, a.status, a.locations(), a.body)
		}
	}
}

func TestIfMatch(t *testing.T) {
	t.Parallel()
	h := serve(t, patches)
	tag := api.ETag(current)
	for header, want := range map[string]int{
		"": 200, "*": 200, tag: 200, `"x", ` + tag: 200, `"x"`: 412, "W/" + tag: 412, strings.Trim(tag, `"`): 412,
	} {
		if a := h.call(t, "acme", "PATCH /v1/things/x", `{"name":"b"}`, "If-Match", header); a.status != want {
			t.Errorf("%s: want %d, got %d %s", header, want, a.status, a.body)
		} else if want == 200 && a.header.Get("ETag") == "" {
			t.Error("no ETag")
		}
	}
	same := current
	if api.ETag("a", "b") == api.ETag("ab") || api.ETag(same) != tag {
		t.Error("ETag is not that of its parts")
	}
}

func TestIfNoneMatch(t *testing.T) {
	t.Parallel()
	h := serve(t, func(a huma.API) {
		patches(a)
		huma.Register(a, op("GET", "/v1/things/{id}", api.Scope("things:read")), func(context.Context, *struct {
			ID string `path:"id"`
		}) (*thingOut, error) {
			return &thingOut{ETag: api.ETag(current), Body: current}, nil
		})
	})
	tag := api.ETag(current)
	for header, want := range map[string]struct{ read, write int }{
		"": {200, 200}, `"x"`: {200, 200}, "*": {304, 412}, tag: {304, 412}, "W/" + tag: {304, 412}, `"x", ` + tag: {304, 412},
	} {
		got := h.call(t, "acme", "GET /v1/things/x", "", "If-None-Match", header)
		if got.status != want.read || got.header.Get("ETag") != tag || (got.status == 304) != (got.body == "") {
			t.Errorf("GET with %s: want %d with the ETag, got %d %v %s", header, want.read, got.status, got.header, got.body)
		}
		got = h.call(t, "acme", "PATCH /v1/things/x", `{"name":"b"}`, "If-None-Match", header)
		if got.status != want.write {
			t.Errorf("PATCH with %s: want %d, got %d %s", header, want.write, got.status, got.body)
		}
	}
	read := h.doc.OpenAPI().Paths["/v1/things/{id}"].Get
	if read.Responses["304"] == nil || read.Parameters[len(read.Parameters)-1].Name != "If-None-Match" {
		t.Errorf("the document does not say that a GET takes If-None-Match: %+v", read)
	}
}

// A body of many errors costs in proportion to its size: the answer reports the first ones, each within bounds.
func TestManyErrors(t *testing.T) {
	t.Parallel()
	h := serve(t, patches)
	var unknown strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&unknown, `"%d":1,`, i)
	}
	for _, body := range []string{
		"{" + strings.TrimSuffix(unknown.String(), ",") + "}",
		`{"tags":[` + strings.Repeat("1,", 20000) + "1]}",
		`{"` + strings.Repeat("x", 60000) + `":1}`,
	} {
		got := h.call(t, "acme", "PATCH /v1/things/x", body)
		if got.status != 422 || len(got.Errors) == 0 || len(got.Errors) > 50 || len(got.body) > 20_000 {
			t.Errorf("%.40s: want 422 with 1 to 50 errors, got %d with %d in %d bytes", body, got.status, len(got.Errors), len(got.body))
		}
	}
}

// An operation that sets no bound of its own has a small one.
func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	h := serve(t, patches)
	if got := h.call(t, "acme", "PATCH /v1/things/x", `{"name":"`+strings.Repeat("x", 64<<10)+`"}`); got.status != 413 {
		t.Errorf("want 413, got %d %.200s", got.status, got.body)
	}
}

func TestEncodedBody(t *testing.T) {
	t.Parallel()
	h := serve(t, patches)
	got := h.call(t, "acme", "PATCH /v1/things/x", `{}`, "Content-Encoding", "gzip")
	if got.status != 415 || got.header.Get("Accept-Encoding") != "identity" {
		t.Errorf("want 415 with Accept-Encoding, got %d %v", got.status, got.header)
	}
	if got = h.call(t, "acme", "PATCH /v1/things/x", `{}`, "Content-Encoding", "identity"); got.status != 200 {
		t.Errorf("want 200, got %d %s", got.status, got.body)
	}
}

func TestPatchKnowsItsFields(t *testing.T) {
	t.Parallel()
	var p api.Patch[thing]
	if err := json.Unmarshal([]byte(`{"name":null}`), &p); err != nil || !p.Has("name") || p.Has("url") {
		t.Errorf("got %+v, %v", p, err)
	}
	next, err := api.Patch[thing]{}.Apply(current)
	if err != nil || !reflect.DeepEqual(next, current) {
		t.Errorf("the empty patch: %+v, %v", next, err)
	}
}
