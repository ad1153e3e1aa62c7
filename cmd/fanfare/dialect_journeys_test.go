package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// hexHMAC is how vendors' clients compute a signature over the raw body.
func hexHMAC(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// guest is a client that was written against a vendor's API, and knows nothing of Fanfare.
type guest struct {
	t           *testing.T
	d           *deployment
	header      http.Header // that goes with every request
	contentType string      // of every answer that has a body
}

// newGuest makes one; headers are pairs.
func newGuest(t *testing.T, d *deployment, contentType string, headers ...string) *guest {
	plain := *d
	plain.client = &http.Client{
		Transport:     d.client.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // there must be none
	}
	g := &guest{t: t, d: &plain, header: http.Header{}, contentType: contentType}
	for i := 0; i < len(headers); i += 2 {
		g.header.Set(headers[i], headers[i+1])
	}
	return g
}

// as is the same client with another credential.
func (g *guest) as(header, value string) *guest {
	other := *g
	other.header = g.header.Clone()
	other.header.Set(header, value)
	return &other
}

// ask sends "METHOD /path" with a body, and wants the status and each of the texts in the answer.
func (g *guest) ask(route, body string, status int, says ...string) reply {
	g.t.Helper()
	method, path, _ := strings.Cut(route, " ")
	r := request{header: g.header}
	if body != "" {
		r.body = []byte(body)
	}
	got := g.d.raw(g.t, "", method, g.d.at.API+path, r)
	if got.status != status || got.body != "" && got.header.Get("Content-Type") != g.contentType {
		g.t.Fatalf("%s %.200s: got %d %s %s, want %d %s", route, body, got.status, got.header.Get("Content-Type"), got.body, status, g.contentType)
	}
	for _, text := range says {
		if !strings.Contains(got.body, text) {
			g.t.Errorf("%s %.200s: got %s, want %s in it", route, body, got.body, text)
		}
	}
	return got.reply
}

// refusals are the failures that each vendor words in its own way. A key of the table is a route, or a route and a body.
type refusals map[[2]string]struct {
	status int
	says   string
}

// refused asks for what must fail.
func (g *guest) refused(all refusals) {
	g.t.Helper()
	for _, asked := range slices.SortedFunc(maps.Keys(all), func(a, b [2]string) int { return strings.Compare(a[0]+a[1], b[0]+b[1]) }) {
		g.ask(asked[0], asked[1], all[asked].status, all[asked].says)
	}
}

// tooLarge is a body beyond what a vendor's API takes.
var tooLarge = `{"name":"` + strings.Repeat("x", 1<<20) + `"}`

// vendorScopes are what a key needs for everything that the four APIs have.
var vendorScopes = append(slices.Clone(ownScopes), "view:purchases", "view:transactions", "view:orders", "view:form_submissions", "view:contacts")

// partner makes a key of the tenant that all vendors share here.
func partner(t *testing.T, d *deployment) (id, key string) {
	t.Helper()
	var k struct{ ID, Key string }
	body := map[string]any{"name": "partner", "tenant": "acme", "scopes": vendorScopes}
	d.call(t, testAdminKey, "POST /v1/keys", body, http.StatusCreated).decode(t, &k)
	return k.ID, k.Key
}

// publish publishes a native event, as the platform does.
func publish(t *testing.T, d *deployment, key, event string) {
	t.Helper()
	d.call(t, key, "POST /v1/events", []byte(event), http.StatusAccepted)
}

// shownNatively wants the newest subscription of a dialect in the native list, with its dialect, and returns its id.
func shownNatively(t *testing.T, d *deployment, key, dialect string) string {
	t.Helper()
	var list struct {
		Data []struct {
			ID, Dialect   string
			PayloadFormat string `json:"payload_format"`
		}
	}
	d.call(t, key, "GET /v1/subscriptions?dialect="+dialect, nil, http.StatusOK).decode(t, &list)
	if len(list.Data) == 0 || list.Data[0].Dialect != dialect || list.Data[0].PayloadFormat != dialect {
		t.Fatalf("the native API shows %+v", list)
	}
	return list.Data[0].ID
}

// fixed wants the native API to leave alone what the vendor fixes.
func fixed(t *testing.T, d *deployment, key, id string, changes ...string) {
	t.Helper()
	for _, change := range changes {
		d.call(t, key, "PATCH /v1/subscriptions/"+id, []byte(change), http.StatusUnprocessableEntity)
	}
}

// Leat's PHP SDK: forms, a token first, signatures in X-Piggy-Signature.
func testLeat(t *testing.T, d *deployment) {
	receiver := servertest.NewReceiver(t)
	_, key := partner(t, d)
	g := newGuest(t, d, "application/json", "Content-Type", "application/x-www-form-urlencoded", "Accept", "application/json")
	var token struct {
		TokenType   string `json:"token_type"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	g.ask("POST /oauth/token", "grant_type=client_credentials&client_id=17&client_secret="+key, 200).decode(t, &token)
	if token.TokenType != "Bearer" || token.ExpiresIn < 60 {
		t.Errorf("got %+v", token)
	}
	g.ask("POST /oauth/token", "grant_type=client_credentials&client_id=17&client_secret=wrong", 401, `"status_code":401`)
	in := g.as("Authorization", "Bearer "+token.AccessToken)

	const base = "/api/v3/oauth/clients/webhook-subscriptions"
	var one struct {
		Data struct {
			UUID      string
			CreatedAt string `json:"created_at"`
		}
	}
	in.ask("POST "+base, "name=Mail&event_type=contact_updated&url="+receiver.URL+"&secret=s3cret&attributes[0]=email", 200,
		`"event_type":"contact_updated"`, `"properties":["email"]`, `"status":"ACTIVE","version":"V1"`, `"meta":[]`).decode(t, &one)
	if !strings.HasSuffix(one.Data.CreatedAt, "+00:00") || len(one.Data.CreatedAt) != 25 {
		t.Errorf("created_at is %q", one.Data.CreatedAt)
	}
	mine := base + "/" + one.Data.UUID
	in.ask("GET /api//webhook-subscriptions?event_type=contact_updated&status=ACTIVE", "", 200, one.Data.UUID)
	in.ask("GET "+mine+"/", "", 200, `"properties":["email"]`)

	publish(t, d, key, `{"type":"contact_updated","changed":["email"],"data":{"contact":{"email":"a@example.com"}}}`)
	came := receiver.Wait(1)[0]
	if want := `{"type":"contact_updated","data":{"contact":{"email":"a@example.com"}}}`; string(came.Body) != want {
		t.Errorf("got %s, want %s", came.Body, want)
	}
	if got, want := came.Header.Get("X-Piggy-Signature"), hexHMAC("s3cret", came.Body); got != want {
		t.Errorf("signature: got %s, want %s", got, want)
	}
	fixed(t, d, key, shownNatively(t, d, key, "leat"), `{"event_types":["voucher_created"]}`, `{"payload_format":"standard"}`)

	in.ask("PUT "+mine, "name=Post&secret=other&event_type=voucher_created&attributes[]=phone", 200, `"name":"Post","event_type":"contact_updated"`, `["phone"]`)
	in.refused(refusals{
		{"GET " + base + "/not-a-uuid"}:                         {404, `"code":80300,"status_code":404`},
		{"GET /api/v3/oauth/nowhere"}:                           {404, `"code":404`},
		{"PATCH " + mine}:                                       {405, `"status_code":405`},
		{"POST " + base, tooLarge}:                              {413, `"status_code":413`},
		{"POST " + base, "name=Mail&event_type=nothing"}:        {422, `"errors":{"event_type":["The selected event_type is invalid."],"url":["The url field is required."]}`},
		{"POST " + base, "%zz"}:                                 {422, `"code":1003`},
		{"PUT " + mine, "name=Post&attributes="}:                {422, `"errors":{"attributes":[`},
		{"GET " + base + "?status=SLEEPING&event_type=nothing"}: {422, `"code":1003`},
	})
	g.ask("GET "+base, "", 401, `{"message":"Unauthenticated.","code":401,"status_code":401}`)
	g.as("Authorization", "Bearer "+d.key(t, "acme", "events:read")).ask("GET "+base, "", 403, `"code":403`)
	in.ask("DELETE "+mine, "", 200, `{"data":[],"meta":[]}`)
	in.ask("GET "+mine, "", 404, `"code":80300`)
}

// A client of Kajabi's: JSON:API documents, a token first, nothing signed.
func testKajabi(t *testing.T, d *deployment) {
	receiver := servertest.NewReceiver(t)
	id, key := partner(t, d)
	plain := newGuest(t, d, "application/json", "Content-Type", "application/x-www-form-urlencoded")
	var token struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
	}
	plain.ask("POST /v1/oauth/token", "grant_type=client_credentials&client_id="+id+"&client_secret="+key, 200).decode(t, &token)
	plain.ask("POST /api/v1/oauth/token", "grant_type=refresh_token&refresh_token="+token.RefreshToken, 200).decode(t, &token)
	plain.ask("POST /v1/oauth/token", "grant_type=client_credentials&client_id="+id+"&client_secret=wrong", 401, `{"error":"invalid_client"}`)
	g := newGuest(t, d, "application/vnd.api+json", "Content-Type", "application/vnd.api+json")
	in := g.as("Authorization", "Bearer "+token.AccessToken)

	hook := `{"data":{"type":"hooks","attributes":{"target_url":"` + receiver.URL + `","event":"tag_added","resource_id":"123"},
		"relationships":{"site":{"data":{"id":"456","type":"sites"}}}}}`
	var one struct{ Data struct{ ID string } }
	in.ask("POST /api/v1/hooks", hook, 201, `"type":"hooks","attributes":{"event":"tag_added"`, `"resource_id":123`,
		`"relationships":{"site":{"data":{"id":"456","type":"sites"}}}`).decode(t, &one)
	mine := "/v1/hooks/" + one.Data.ID
	in.ask("GET "+mine, "", 200, `"id":"`+one.Data.ID+`"`)
	in.ask("GET /v1/hooks?page[number]=1&page[size]=10&filter[event_eq]=tag_added", "", 200, `"id":"`+one.Data.ID+`"`,
		`"self":"`+d.at.API+`/v1/hooks?page[number]=1&page[size]=10&filter[event_eq]=tag_added"`, `"meta":{"total_pages":1,"total_count":1,"current_page":1,"total":1}`)
	in.ask("GET /api/v1/hooks/tag_added_sample", "", 200, `"type": "contact_tags"`)

	publish(t, d, key, `{"type":"tag_added","object_id":"9","resource_ids":["7"],"data":{}}`)
	publish(t, d, key, `{"type":"tag_added","object_id":"9","resource_ids":["123"],"data":{"id":"9","type":"contacts"}}`)
	if got, want := string(receiver.Wait(1)[0].Body), `{"id":"9","event":"tag_added","payload":[{"id":"9","type":"contacts"}]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	fixed(t, d, key, shownNatively(t, d, key, "kajabi"), `{"event_types":["purchase"]}`, `{"url":"https://example.com"}`, `{"resource_id":null}`)

	in.refused(refusals{
		{"GET /v1/hooks/abc"}:          {404, `"status":"404","title":"Not Found"`},
		{"GET /v1/hooks/1/2"}:          {404, `"status":"404"`},
		{"PATCH " + mine, hook}:        {405, `"status":"405"`},
		{"POST /v1/hooks", tooLarge}:   {413, `"status":"413"`},
		{"POST /v1/hooks", `{"data":`}: {400, `"status":"400"`},
		{"POST /v1/hooks", `{}`}:       {422, `"source":{"pointer":""}`},
		{"POST /v1/hooks", `{"data":{"type":"hooks","attributes":{"event":"nothing"}}}`}: {422, `"source":{"pointer":"/data/attributes/event"}`},
	})
	g.ask("GET /v1/hooks", "", 401, `"status":"401"`)
	g.as("Authorization", "Bearer "+d.key(t, "acme")).ask("POST /v1/hooks", hook, 403, "view:contacts")
	in.ask("DELETE "+mine, "", 204)
	in.ask("GET "+mine, "", 404)
	plain.ask("POST /v1/oauth/revoke", "token="+token.AccessToken, 200)
	in.ask("GET /v1/hooks", "", 401)
}

// A client of Passona's: no event types, so that events name their targets; nothing signed, nothing tried again.
func testPassona(t *testing.T, d *deployment) {
	receiver := servertest.NewReceiver(t, servertest.Status(http.StatusInternalServerError))
	_, key := partner(t, d)
	g := newGuest(t, d, "application/json", "Content-Type", "application/json", "Accept", "application/json")
	in := g.as("Authorization", "Bearer "+key)
	const base = "/api/2.0/webhooks"
	var one struct{ Data struct{ UUID string } }
	in.ask("POST "+base+"/", `{"name":"Join","url":"`+receiver.URL+`","headers":{"X-Team":"red"}}`, 201, `"headers":{"X-Team":"red"},"links":[{"rel":"self","uri":"`+d.at.API+base+"/").decode(t, &one)
	mine := base + "/" + one.Data.UUID
	in.ask("GET "+mine, "[]", 200, one.Data.UUID)
	in.ask("GET "+base+"//?per_page=20&page=1", "", 200, `"last_page":1,"path":"`+d.at.API+base+`","per_page":20,"to":1,"total":1}`,
		`"links":{"first":"`+d.at.API+base+`?page=1","last":"`+d.at.API+base+`?page=1","prev":null,"next":null}`)
	in.ask("PUT "+mine, `{"headers":{"X-Team":"blue"}}`, 200, `"name":"Join"`, `"headers":{"X-Team":"blue"}`)

	publish(t, d, key, `{"type":"keyword.received","targets":["`+one.Data.UUID+`"],"data":{"keyword":"JOIN"}}`)
	came := receiver.Wait(1)[0]
	if string(came.Body) != `{"keyword":"JOIN"}` || came.Header.Get("X-Team") != "blue" || came.Header.Get("Webhook-Signature") != "" {
		t.Errorf("got %v %s", came.Header, came.Body)
	}
	id := shownNatively(t, d, key, "passona")
	d.until(t, key, "GET /v1/dead-letters?subscription="+id, func(r reply) bool { return strings.Contains(r.body, `"attempts":1,`) })
	fixed(t, d, key, id, `{"event_types":["keyword.received"]}`, `{"retry":{"max_retries":1}}`)

	in.refused(refusals{
		{"GET " + base + "/f3357bfe-fb20-11e9-93ef-0242ac120008ds"}: {404, `{"message":"Not Found"}`},
		{"GET /api/2.0/keywords"}:                                   {404, `{"message":"Not Found"}`},
		{"DELETE " + base}:                                          {405, `{"message":"The DELETE method`},
		{"POST " + base, tooLarge}:                                  {413, `{"message":`},
		{"POST " + base, `{`}:                                       {422, `"errors":{"name":["The name field is required."],"url":["The url field is required."]}`},
		{"PUT " + mine, `{"url":"nowhere","headers":{"Host":"x"}}`}: {422, `"headers.Host":[`},
	})
	g.ask("GET "+base, "", 401, `{"message":"Unauthenticated."}`)
	g.as("Authorization", "Bearer "+d.key(t, "acme", "events:read")).ask("GET "+base, "", 403, `{"message":`)
	in.ask("DELETE "+mine+"/", "", 204)
	in.ask("DELETE "+mine, "", 404)
}

// A client of Babelfor's: envelopes, filters, a log of what was sent.
func testBabelfor(t *testing.T, d *deployment) {
	receiver := servertest.NewReceiver(t)
	_, key := partner(t, d)
	g := newGuest(t, d, "application/json; charset=utf-8", "Content-Type", "application/json-patch+json", "Accept", "text/plain")
	in := g.as("X-Api-Key", key)
	const base = "/v1/webhooks/subscriptions"
	var one struct{ Subscription struct{ ID int } }
	in.ask("POST "+base, `{"subscription":{"name":"ERP","eventType":"LicenseCreated","url":"`+receiver.URL+`","secret":"s3cret","headers":{"X-Team":"red"},"maxRetryCount":2}}`,
		200, `"secret":"s3cret","maxRetryCount":2,"isActive":true`, `"headers":"{\"X-Team\":\"red\"}"`, `"success":true,"message":""`).decode(t, &one)
	mine := fmt.Sprint(base, "/", one.Subscription.ID)
	in.ask("GET "+base+"?filter=IsActive%20==%20true%20%26%26%20Name.Contains(%22ER%22)&sort=createdAt%20desc&select=id,name&take=5", "", 200,
		fmt.Sprintf(`{"subscriptions":[{"id":%d,"name":"ERP"}],"totalSubscriptionsCount":1`, one.Subscription.ID))

	publish(t, d, key, `{"type":"LicenseCreated","id":"license_17","data":{"license":"L-17"}}`)
	var test struct{ EventID int }
	in.ask("POST "+mine+"/test", `{"payload":{"a":1}}`, 200).decode(t, &test)
	for _, came := range receiver.Wait(2) {
		if got, want := came.Header.Get("X-Webhook-Signature"), "sha256="+hexHMAC("s3cret", came.Body); got != want || came.Header.Get("X-Team") != "red" {
			t.Errorf("got %v, want the signature %s", came.Header, want)
		}
	}
	var log struct {
		Events []struct {
			ID        int
			Payload   string
			IsSuccess bool
		}
		TotalEventsCount int
	}
	await(t, "the log has both", func() bool {
		return json.Unmarshal([]byte(in.ask("GET "+mine+"/events?filter=isSuccess%20eq%20true", "", 200).body), &log) == nil && log.TotalEventsCount == 2
	})
	in.ask("GET "+mine+"?include=webhookEvents", "", 200, `"payload":"{\"license\":\"L-17\"}"`)
	event := fmt.Sprintf("%s/events/%d", mine, test.EventID)
	in.ask("DELETE "+event, "", 200, `{"success":true,"message":""}`)
	in.ask("DELETE "+event, "", 404, `{"success":false,"message":"Event not found."}`)
	in.ask("PUT "+mine, `{"subscription":{"eventType":"LicenseCreated,LicenseRevoked","secret":null}}`, 200, `"eventType":"LicenseCreated,LicenseRevoked"`, `"secret":null`)
	fixed(t, d, key, shownNatively(t, d, key, "babelfor"), `{"payload_format":"standard"}`, `{"retry":{"schedule":["1s"]}}`)

	in.refused(refusals{
		{"GET " + base + "/2147483646"}:                   {404, `{"success":false,"message":"Subscription not found."}`},
		{"GET " + base + "/abc"}:                          {400, `{"success":false,`},
		{"GET /v1/webhooks/nowhere"}:                      {404, `{"success":false,"message":"Not Found"}`},
		{"PATCH " + base}:                                 {405, `{"success":false,`},
		{"POST " + base, tooLarge}:                        {413, `{"success":false,`},
		{"POST " + base, `{`}:                             {400, `{"success":false,`},
		{"POST " + base, `{"subscription":{"name":"a"}}`}: {400, `The eventType is required.`},
		{"GET " + base + "?filter=nothing%20eq%201"}:      {400, `unknown field`},
		{"PUT " + mine, `{"subscription":{"url":"nowhere","maxRetryCount":1000}}`}: {400, `The maxRetryCount must be`},
	})
	g.ask("GET "+base, "", 401, `{"success":false,"message":"Unauthenticated."}`)
	g.as("X-Api-Key", d.key(t, "acme", "events:read")).ask("GET "+base, "", 403, `{"success":false,`)
	in.ask("DELETE "+mine, "", 200, `{"success":true,"message":""}`)
	in.ask("GET "+mine, "", 404)
}
