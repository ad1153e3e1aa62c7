package vendors_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/dialects/vendors"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// creations are how each vendor's clients make a subscription.
var creations = map[string]struct{ what, body string }{
	"leat": {"POST /api/v3/oauth/clients/webhook-subscriptions", `{"name":"a","event_type":"contact_updated","url":"$url","secret":"s3cret","attributes":["email"]}`},
	"kajabi": {"POST /v1/hooks", `{"data":{"type":"hooks","attributes":{"target_url":"$url","event":"tag_added","resource_id":123},
		"relationships":{"site":{"data":{"id":"456","type":"sites"}}}}}`},
	"passona":  {"POST /api/2.0/webhooks/", `{"name":"a","url":"$url","headers":{"X-Team":"red","Content-Type":"application/vnd.passona+json"}}`},
	"babelfor": {"POST /v1/webhooks/subscriptions", `{"subscription":{"name":"a","eventType":"LicenseCreated","url":"$url","secret":"s3cret","headers":{"X-Team":"red"}}}`},
}

// native is a subscription as the native API shows it.
type native struct {
	ID            string
	Number        int32
	Dialect       string
	Name          string
	URL           string   `json:"url"`
	EventTypes    []string `json:"event_types"`
	PayloadFormat string   `json:"payload_format"`
	Timeout       string
	Retry         struct {
		Schedule   []string
		MaxRetries int `json:"max_retries"`
	}
	Metadata map[string]string
	Status   string
}

// create makes a subscription through a vendor's API, and returns it as the native API shows it.
func (h *house) create(vendor, key, url string) native {
	h.T.Helper()
	c := creations[vendor]
	if a := h.call(key, c.what, strings.ReplaceAll(c.body, "$url", url)); a.status >= 300 {
		h.T.Fatalf("%s: %d %s", vendor, a.status, a.body)
	}
	list := h.list(key, "?dialect="+vendor)
	return list[0] // the newest
}

func (h *house) list(key, query string) []native {
	h.T.Helper()
	var list struct{ Data []native }
	h.call(key, "GET /v1/subscriptions"+query, "").decode(h.T, http.StatusOK, &list)
	return list.Data
}

// Two dialects, or four, on one server with one tenant: each sees what was made through it and nothing else, and
// the native API sees all.
func TestDialectsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	_, other := h.key("globex", allScopes)
	made := map[string]native{}
	for vendor := range creations {
		made[vendor] = h.create(vendor, key, h.receiver.URL)
	}
	if all := h.list(key, ""); len(all) != 4 {
		t.Errorf("the native API shows %+v", all)
	}
	for _, test := range []struct {
		vendor, list, one string
		id                func(native) string
	}{
		{"leat", "/api/v3/oauth/clients/webhook-subscriptions", "/api//webhook-subscriptions/", func(n native) string { return n.ID }},
		{"kajabi", "/v1/hooks", "/api/v1/hooks/", func(n native) string { return strconv.Itoa(int(n.Number)) }},
		{"passona", "/api/2.0/webhooks/", "/api/2.0/webhooks/", func(n native) string { return n.ID }},
		{"babelfor", "/v1/webhooks/subscriptions", "/v1/webhooks/subscriptions/", func(n native) string { return strconv.Itoa(int(n.Number)) }},
	} {
		body := h.call(key, "GET "+test.list, "").body
		for vendor, n := range made {
			shown := strings.Contains(body, `"`+n.ID+`"`) || strings.Contains(body, `"id":"`+test.id(n)+`"`) || strings.Contains(body, `"id":`+test.id(n)+`,`)
			if shown != (vendor == test.vendor) {
				t.Errorf("%s lists that of %s: %v, %s", test.vendor, vendor, shown, body)
			}
			for _, method := range []string{"GET", "DELETE"} {
				want := http.StatusNotFound
				if method == "GET" && vendor == test.vendor {
					want = http.StatusOK
				}
				if vendor == test.vendor && method == "DELETE" {
					continue
				}
				if a := h.call(key, method+" "+test.one+test.id(n), ""); a.status != want {
					t.Errorf("%s %s of %s: %d %s", test.vendor, method, vendor, a.status, a.body)
				}
			}
			// Another tenant's id gets what an id gets that does not exist.
			foreign, none := h.call(other, "GET "+test.one+test.id(n), ""), h.call(other, "GET "+test.one+nobody(test.id(n)), "")
			if foreign.status != none.status || foreign.body != none.body || foreign.status != http.StatusNotFound {
				t.Errorf("%s, another tenant: %d %s, nobody's: %d %s", test.vendor, foreign.status, foreign.body, none.status, none.body)
			}
		}
	}
	if left := h.list(key, ""); len(left) != 4 {
		t.Errorf("%d are left", len(left))
	}
}

// nobody is an id of the same form that nothing has.
func nobody(id string) string {
	if len(id) == 36 {
		return "0198c0de-7a3c-7000-8000-5f1e2d3c4b5a"
	}
	return "999"
}

// A subscription of a dialect has its vendor's rules, and the native API does not change what its clients count on.
func TestNativeAPIKeepsVendorsRules(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	fixed := map[string]map[string]string{
		"leat":   {"event_types": `["voucher_created"]`, "payload_format": `"standard"`},
		"kajabi": {"event_types": `["purchase"]`, "payload_format": `"standard"`, "url": `"https://example.com/"`, "resource_id": `"9"`, "metadata": `null`},
		"passona": {
			"event_types": `["a"]`, "payload_format": `"standard"`, "retry": `{"max_retries":3}`,
		},
		"babelfor": {"payload_format": `"standard"`, "retry": `{"schedule":["1s"],"max_retries":3}`, "metadata": `null`},
	}
	for vendor, fields := range fixed {
		n := h.create(vendor, key, h.receiver.URL)
		if n.Dialect != vendor || n.PayloadFormat != vendor || n.Status != "active" || n.Name == "" {
			t.Errorf("%s: got %+v", vendor, n)
		}
		for field, value := range fields {
			a := h.call(key, "PATCH /v1/subscriptions/"+n.ID, `{"`+field+`":`+value+`}`)
			if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `"body.`+field) {
				t.Errorf("%s: %s was answered %d %s", vendor, field, a.status, a.body)
			}
		}
		if vendor != "babelfor" {
			if a := h.call(key, "POST /v1/subscriptions/"+n.ID+"/rotate-secret", `{}`); a.status != http.StatusUnprocessableEntity {
				t.Errorf("%s: rotating was answered %d %s", vendor, a.status, a.body)
			}
		}
		// What no vendor speaks of is the operator's.
		if a := h.call(key, "PATCH /v1/subscriptions/"+n.ID, `{"max_in_flight":3,"description":"x"}`); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", vendor, a.status, a.body)
		}
	}
	// A hook of Kajabi, which has no names, has one that is cut to what a name may have.
	host := strings.Repeat(strings.Repeat("é", 40)+".", 2) + "example.com"
	if n := h.create("kajabi", key, "https://"+host+":8443/x"); n.Name != "tag_added → "+host[:149] { // the character at 149 has two bytes
		t.Errorf("kajabi names a hook %q", n.Name)
	}
	if n := h.list(key, "?dialect=passona")[0]; n.Retry.MaxRetries != 0 || len(n.EventTypes) != 0 {
		t.Errorf("passona: %+v", n)
	}
	if n := h.list(key, "?dialect=babelfor")[0]; n.Retry.MaxRetries != 3 || !slices.Equal(n.Retry.Schedule, []string{"5m"}) {
		t.Errorf("babelfor: %+v", n)
	}
	if n := h.list(key, "?dialect=leat")[0]; n.Timeout != "10s" {
		t.Errorf("leat: %+v", n)
	}
}

// Who changes where events go must be allowed to see them, through a dialect as well.
func TestScopesHoldForChanges(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	_, poor := h.key("acme", `["subscriptions:write","subscriptions:read"]`)
	a := h.call(key, "POST /v1/webhooks/subscriptions", `{"subscription":{"name":"a","eventType":"purchase","url":"https://example.com/"}}`)
	if a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, change := range []string{`{"url":"https://evil.example.com/"}`, `{"eventType":"purchase,order_created"}`} {
		a := h.call(poor, "PUT /v1/webhooks/subscriptions/1", `{"subscription":`+change+`}`)
		if a.status != http.StatusForbidden || !strings.Contains(a.body, "view:") {
			t.Errorf("%s: %d %s", change, a.status, a.body)
		}
	}
	if a := h.call(poor, "POST /v1/webhooks/subscriptions", `{"subscription":{"name":"a","eventType":"purchase","url":"https://example.com/"}}`); a.status != http.StatusForbidden {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := h.call(poor, "PUT /v1/webhooks/subscriptions/1", `{"subscription":{"name":"b"}}`); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// Whoever gives a subscription another URL through a dialect and lacks the scopes of its events either is refused or receives none
// of them from then on.
func TestRepointingNeedsScopesInEachDialect(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if err := h.store.CreateEventType(t.Context(), &subscriptions.EventType{Tenant: "acme", Name: "contact_updated", Scopes: []string{"view:contacts"}}); err != nil {
		t.Fatal(err)
	}
	_, key := h.key("acme", allScopes)
	_, poor := h.key("acme", `["subscriptions:write","subscriptions:read"]`)
	for vendor, routes := range map[string]struct {
		change, body string
		status       int
	}{
		"leat":     {"PUT /api/v3/oauth/clients/webhook-subscriptions/$id", `{"url":"https://evil.example.com/","attributes":["email"]}`, http.StatusForbidden},
		"kajabi":   {"PUT /v1/hooks/$number", `{"data":{"type":"hooks","attributes":{"target_url":"https://evil.example.com/"}}}`, http.StatusMethodNotAllowed},
		"passona":  {"PUT /api/2.0/webhooks/$id", `{"url":"https://evil.example.com/"}`, http.StatusOK}, // It has no types: events name it.
		"babelfor": {"PUT /v1/webhooks/subscriptions/$number", `{"subscription":{"url":"https://evil.example.com/","eventType":"purchase"}}`, http.StatusForbidden},
	} {
		n := h.create(vendor, key, "https://example.com/")
		if a := h.call(poor, strings.NewReplacer("$id", n.ID, "$number", fmt.Sprint(n.Number)).Replace(routes.change), routes.body); a.status != routes.status {
			t.Errorf("%s: %d %s, want %d", vendor, a.status, a.body, routes.status)
		}
		now := must(h.store.Get(t.Context(), "acme", uuid.MustParse(n.ID)))(t)
		moved := now.URL != n.URL
		if moved != (routes.status == http.StatusOK) || moved && slices.ContainsFunc(now.Scopes, func(s string) bool { return strings.HasPrefix(s, "view:") }) {
			t.Errorf("%s: sends to %s within %q", vendor, now.URL, now.Scopes)
		}
	}
	body := strings.ReplaceAll(creations["kajabi"].body, "$url", "https://evil.example.com/")
	if a := h.call(poor, creations["kajabi"].what, body); a.status != http.StatusForbidden {
		t.Errorf("kajabi: %d %s", a.status, a.body)
	}
}

// What is paused or disabled natively is not active to a vendor's client; one that sends back what it read changes nothing.
func TestStatusOfTheNativeAPI(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	leat, babelfor := h.create("leat", key, h.receiver.URL), h.create("babelfor", key, h.receiver.URL)
	status := func(n native) string {
		var now struct{ Status string }
		h.call(key, "GET /v1/subscriptions/"+n.ID, "").decode(t, http.StatusOK, &now)
		return now.Status
	}
	for _, n := range []struct {
		native
		off, on, path, shown string
	}{
		{leat, `{"status":"INACTIVE","attributes":["email"]}`, `{"status":"ACTIVE","attributes":["email"]}`, "/api/webhook-subscriptions/" + leat.ID, `"status":"INACTIVE"`},
		{babelfor, `{"subscription":{"isActive":false}}`, `{"subscription":{"isActive":true}}`, "/v1/webhooks/subscriptions/" + strconv.Itoa(int(babelfor.Number)), `"isActive":false`},
	} {
		h.call(key, "POST /v1/subscriptions/"+n.ID+"/pause", "").decode(t, http.StatusAccepted, nil)
		if a := h.call(key, "GET "+n.path, ""); !strings.Contains(a.body, n.shown) {
			t.Errorf("paused: %s", a.body)
		}
		if a := h.call(key, "PUT "+n.path, n.off); !strings.Contains(a.body, n.shown) || status(n.native) != "paused" {
			t.Errorf("sent back: %s, %s", a.body, status(n.native))
		}
		if a := h.call(key, "PUT "+n.path, n.on); a.status != http.StatusOK || status(n.native) != "active" {
			t.Errorf("activated: %s, %s", a.body, status(n.native))
		}
		if a := h.call(key, "PUT "+n.path, n.off); a.status != http.StatusOK || status(n.native) != "disabled" {
			t.Errorf("deactivated: %s, %s", a.body, status(n.native))
		}
	}
}

// Somebody else's change between reading and writing is not lost.
func TestUpdateKeepsOthersChanges(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	n := h.create("passona", key, h.receiver.URL)
	done := make(chan answer)
	go func() {
		for range 20 {
			done <- h.call(key, "PUT /api/2.0/webhooks/"+n.ID, `{"name":"renamed"}`)
		}
		close(done)
	}()
	for i := range 20 {
		h.Eventually("a change comes through", func() bool {
			return h.call(key, "PATCH /v1/subscriptions/"+n.ID, `{"description":"`+strconv.Itoa(i)+`"}`).status == http.StatusOK
		})
	}
	for a := range done {
		if a.status != http.StatusOK {
			t.Errorf("got %d %s", a.status, a.body)
		}
	}
	var now struct{ Name, Description string }
	h.call(key, "GET /v1/subscriptions/"+n.ID, "").decode(t, http.StatusOK, &now)
	if now.Name != "renamed" || now.Description != "19" {
		t.Errorf("got %+v", now)
	}
}

// No two vendors own a path, and what none owns goes on.
func TestMux(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for i, v := range h.vendors {
		for _, w := range h.vendors[i+1:] {
			for _, p := range v.Prefixes {
				for _, q := range w.Prefixes {
					if p == q || strings.HasPrefix(p, q+"/") || strings.HasPrefix(q, p+"/") {
						t.Errorf("%s and %s both own %s", v.Name, w.Name, p)
					}
				}
			}
		}
	}
	for path, contentType := range map[string]string{
		"/v1/nothing": "application/problem+json", "/v1//subscriptions": "application/problem+json", "/v1/hooksmith": "application/problem+json",
		"/openapi.json": "application/openapi+json",
	} {
		if a := h.call("", "GET "+path, ""); !strings.HasPrefix(a.header.Get("Content-Type"), contentType) {
			t.Errorf("%s: %d %v", path, a.status, a.header)
		}
	}
	// One that is switched off is not there.
	off := newHouse(t, func(h *house) { h.cfg.Dialects = []string{"kajabi"} })
	_, key := off.key("acme", allScopes)
	for path, want := range map[string]int{"/v1/hooks": 200, "/api/2.0/webhooks": 404, "/oauth/token": 404, "/v1/webhooks/subscriptions": 404} {
		if a := off.call(key, "GET "+path, ""); a.status != want {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

// Kajabi's events carry their scopes in every tenant, through every API; what an operator made of them stays.
func TestKajabisEventTypes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, poor := h.key("acme", `["subscriptions:write","events:read"]`)
	a := h.call(poor, "POST /v1/subscriptions", `{"name":"a","url":"https://example.com","event_types":["order_created"]}`)
	if a.status != http.StatusForbidden || !strings.Contains(a.body, "view:") {
		t.Errorf("natively: %d %s", a.status, a.body)
	}
	var list struct {
		Data []struct {
			Name   string
			Scopes []string
			Sample json.RawMessage
		}
	}
	h.call(poor, "GET /v1/event-types", "").decode(t, http.StatusOK, &list)
	if len(list.Data) != 0 {
		t.Errorf("a tenant that does not use Kajabi lists %+v", list.Data)
	}
	_, rich := h.key("acme", `["events:read","view:purchases","view:transactions","view:orders","view:form_submissions","view:contacts"]`)
	h.call(rich, "GET /v1/event-types", "").decode(t, http.StatusOK, &list)
	if len(list.Data) != 6 {
		t.Fatalf("got %+v", list)
	}
	for _, e := range list.Data {
		if len(e.Scopes) == 0 {
			t.Errorf("%s demands no scope", e.Name)
		}
		checkSample(t, e.Name, e.Sample)
	}
	changed := must(h.store.GetEventType(t.Context(), "", "purchase"))(t)
	changed.Description, changed.Scopes = "ours", nil
	if err := h.store.UpdateEventType(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := vendors.Declare(t.Context(), []string{"kajabi"}, h.store); err != nil {
			t.Fatal(err)
		}
	}
	if now := must(h.store.GetEventType(t.Context(), "", "purchase"))(t); now.Description != "ours" || len(now.Scopes) > 0 || now.Revision != changed.Revision {
		t.Errorf("got %+v", now)
	}
	if err := vendors.Declare(t.Context(), []string{"leat"}, nil); err != nil {
		t.Error(err)
	}
}

// A key over all tenants is nobody's account with a vendor, unless it names one; its scopes bound it there too.
func TestKeysOverAllTenantsNameTheAccount(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	operator := func(scopes string) (key string) {
		var made struct{ ID, Key string }
		h.call(adminKey, "POST /v1/keys", `{"name":"operator","tenant":null,"scopes":`+scopes+`}`).decode(t, http.StatusCreated, &made)
		return made.Key
	}
	reader, writer := operator(`["subscriptions:read"]`), operator(`["subscriptions:read","subscriptions:write","view:contacts"]`)
	for vendor, c := range creations {
		body := strings.ReplaceAll(c.body, "$url", h.receiver.URL)
		for _, key := range []string{reader, writer, adminKey} {
			if a := h.call(key, c.what, body); a.status != http.StatusForbidden {
				t.Errorf("%s without an account: %d %s", vendor, a.status, a.body)
			}
		}
		if a := h.call(reader, c.what+"?tenant=acme", body); a.status != http.StatusForbidden {
			t.Errorf("%s without the scope: %d %s", vendor, a.status, a.body)
		}
		if a := h.call(writer, c.what+"?tenant=acme", body); a.status >= 300 {
			t.Errorf("%s with an account: %d %s", vendor, a.status, a.body)
		}
	}
	var actors string
	if err := h.DB.QueryRow(`SELECT string_agg(DISTINCT tenant || ' ' || actor_kind || ' ' || actor_name, ',') FROM changes WHERE resource = 'subscription'`).Scan(&actors); err != nil {
		t.Fatal(err)
	}
	if actors != "acme key operator" {
		t.Errorf("the history names %q", actors)
	}
}
