package subscriptions_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// listed are the event types of a list, in order.
func listed(r reply) string {
	var all []string
	for _, item := range r.body["data"].([]any) {
		all = append(all, item.(map[string]any)["name"].(string))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// webhooks are the event types of a catalog, in order.
func webhooks(r reply) string {
	all, _ := r.body["webhooks"].(map[string]any)
	return strings.Join(slices.Sorted(maps.Keys(all)), " ")
}

// What a dialect brought is listed to tenants that use it, and to keys with the scopes of the type.
func TestTypesOfADialectAreListedToItsTenants(t *testing.T) {
	t.Parallel()
	s := serve(t)
	brought := func() *subscriptions.EventType {
		return &subscriptions.EventType{Name: "purchase", Description: "d", Scopes: []string{"view:purchases"}, Dialect: subscriptions.Kajabi}
	}
	former := brought() // as an earlier version made it
	former.Dialect = ""
	for _, et := range []*subscriptions.EventType{former, {Name: "operators", Description: "own"}, {Name: "plain"}} {
		if err := s.store.CreateEventType(t.Context(), et); err != nil {
			t.Fatal(err)
		}
	}
	if got := listed(s.want(t, 200, "globex GET /v1/event-types", "")); got != "operators plain purchase" {
		t.Errorf("before it is known to be brought: %s", got)
	}
	for _, et := range []*subscriptions.EventType{brought(), {Name: "operators", Description: "d", Dialect: subscriptions.Kajabi}} {
		if err := s.store.AdoptEventType(t.Context(), et); err != nil {
			t.Fatal(err)
		}
	}
	sees := func(who, want string) {
		t.Helper()
		query := ""
		if key, tenant, ok := strings.Cut(who, " for "); ok {
			who, query = key, "?tenant="+tenant
		}
		if got := listed(s.want(t, 200, who+" GET /v1/event-types"+query, "")); got != want {
			t.Errorf("%s%s lists %s, want %s", who, query, got, want)
		}
		if got := webhooks(s.want(t, 200, who+" GET /v1/catalog"+query, "")); got != want {
			t.Errorf("the catalog of %s%s has %s, want %s", who, query, got, want)
		}
	}
	sees("acme", "operators plain")
	sees("viewer", "operators plain purchase")
	sees("globex", "operators plain")
	sees("admin", "operators plain purchase")
	sees("admin for globex", "operators plain")
	s.want(t, 200, "globex GET /v1/event-types/purchase", "")
	sub := plain("globex", "purchase")
	sub.Dialect, sub.Scopes = subscriptions.Kajabi, []string{subscriptions.AllScopes}
	s.create(t, sub)
	sees("globex", "operators plain purchase")
	sees("admin for globex", "operators plain purchase")
	sees("acme", "operators plain")
	if err := s.store.Delete(t.Context(), "globex", sub.ID); err != nil {
		t.Fatal(err)
	}
	sees("globex", "operators plain")
}

// The catalog is an OpenAPI document that others read.
func TestCatalog(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for _, body := range []string{
		`{"name":"order.created","description":"A customer placed an order","scopes":["view:orders"],"sample":{"order":"o_17","lines":[{"sku":"s","count":2}]},
			"schema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","required":["order"],
			"properties":{"order":{"type":"string"},"lines":{"type":"array","items":{"$ref":"#/$defs/line item"}},"enum":{"$ref":"#/$defs/line item/properties/sku"}},
			"$defs":{"line item":{"type":"object","properties":{"sku":{"type":"string"},"count":{"type":"integer","minimum":1},"parts":{"type":"array","items":{"$ref":"#/$defs/line item"}}}}},
			"examples":[{"order":"o_1"}]}}`,
		`{"name":"order.renamed","deprecated":true,"replaced_by":"order.created","validation":"warn","schema":{"type":"object"}}`,
		`{"name":"order.archived","archived":true}`,
		`{"name":"any"}`, `{"name":"all","schema":true}`,
	} {
		s.want(t, 201, "admin POST /v1/event-types", body)
	}
	s.want(t, 201, "admin POST /v1/event-types?tenant=acme", `{"name":"own","description":"acme's"}`)
	s.want(t, 403, "reader GET /v1/catalog", "")
	s.want(t, 422, "acme GET /v1/catalog?type=a..b", "")
	r := s.want(t, 200, "acme GET /v1/catalog", "")
	if got := webhooks(r); got != "all any order.created order.renamed own" {
		t.Errorf("the webhooks are %s", got)
	}
	if got := webhooks(s.want(t, 200, "acme GET /v1/catalog?type=order.*", "")); got != "order.created order.renamed" {
		t.Errorf("of a pattern: %s", got)
	}
	if got := webhooks(s.want(t, 200, "globex GET /v1/catalog", "")); got != "all any order.created order.renamed" {
		t.Errorf("globex: %s", got)
	}
	if file := os.Getenv("CATALOG_OUT"); file != "" {
		_ = os.WriteFile(file, []byte(r.text), 0o600)
	}

	doc, err := openapi3.NewLoader().LoadFromData([]byte(r.text))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	post := doc.Webhooks["order.created"].Post
	if len(post.Parameters) != 3 || post.Parameters[2].Value.Name != "webhook-signature" || !strings.Contains(post.Description, "view:orders") {
		t.Errorf("the webhook is %+v", post)
	}
	body := post.RequestBody.Value.Content["application/json"]
	example, err := json.Marshal(body.Example)
	if err != nil || !strings.Contains(string(example), `"data":{"lines":[{"count":2,"sku":"s"}],"order":"o_17"}`) {
		t.Errorf("the example is %s (%v)", example, err)
	}
	data := body.Schema.Value.Properties["data"]
	line := data.Value.Properties["lines"].Value.Items
	if data.Ref != "#/components/schemas/order.created" || line.Ref != "#/components/schemas/order.created-line_item" ||
		line.Value.Properties["parts"].Value.Items.Ref != line.Ref || data.Value.Properties["enum"].Value.Type.Slice()[0] != "string" {
		t.Errorf("the schema of the data is %s, of a line %s", data.Ref, line.Ref)
	}
	if renamed := doc.Webhooks["order.renamed"].Post; !renamed.Deprecated || !strings.Contains(renamed.Description, "`order.created`") || !strings.Contains(renamed.Description, "not enforced") {
		t.Errorf("deprecated: %+v", renamed)
	}
	// kin-openapi does not know anchors.
	s.want(t, 201, "admin POST /v1/event-types", `{"name":"anchored","schema":{"$ref":"#here","$defs":{"x":{"$anchor":"here","type":"string"}}}}`)
	r = s.want(t, 200, "acme GET /v1/catalog?type=anchored", "")
	if id := fmt.Sprint(r.body["components"].(map[string]any)["schemas"].(map[string]any)["anchored"].(map[string]any)["$id"]); id != "urn:fanfare:event-type:anchored" {
		t.Errorf("a schema with anchors has the id %s", id)
	}
}
