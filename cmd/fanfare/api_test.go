package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/ingest"
	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/dialects/vendors"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/running"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// TestAPI holds the whole of Fanfare against its own document: everything is wired as `fanfare all` wires it, and two
// more fan-out stages take part in the matching.
func TestAPI(t *testing.T) {
	t.Parallel()
	d := launch(t, 2)
	for name, test := range map[string]func(*testing.T, *deployment){
		"Document": testDocument, "Generators": testGenerators, "Docs": testDocs, "Guides": testGuides, "Shown": testShown, "CrossTenant": testCrossTenant, "Scopes": testScopes,
		"RandomCalls": testRandomCalls, "ReadYourWrites": testReadYourWrites, "Lists": testLists,
		"EventTypeScopes": testEventTypeScopes, "Words": testWords, "Faults": testFaults, "Batches": testBatches, "ErasedTenant": testErasedTenant,
		"OperationalEvents": testOperationalEvents, "Operators": testOperators, "OperatorsRaiseNothing": testOperatorsRaiseNothing,
		"QueryParameters": testQueryParameters, "TooLarge": testTooLarge,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, d)
		})
	}
}

// deployment is a running Fanfare.
type deployment struct {
	at     running.Process
	admin  *client.Client
	doc    *document
	client *http.Client
}

const testAdminKey = "the-admin-key-of-these-tests"

// launch runs `all` and further fan-out stages in this process until the test ends.
func launch(t *testing.T, stages int) *deployment {
	t.Helper()
	s := testSettings(t.TempDir())
	s.server.PostgresURL = servertest.PostgresURL(t)
	at := runInProcess(t, s, roleAll)
	for range stages {
		more := *s
		more.nats.URL = at.NATS
		runInProcess(t, &more, roleFanout)
	}
	c := client.New(at.API, testAdminKey)
	t.Cleanup(c.Close)
	return &deployment{at: at, admin: c, client: c.HTTP, doc: readDocument(t, at.API)}
}

func testSettings(dir string) *settings {
	s := newSettings()
	s.access, s.egress, s.ingest, s.fanout = access.DefaultConfig(), egress.DefaultConfig(), ingest.DefaultConfig(), fanout.DefaultConfig()
	s.deliver, s.dialects = deliver.DefaultConfig(), vendors.DefaultConfig()
	s.ingest.Timeout = time.Minute // The storage of a machine that is busy with other tests is slow.
	s.server = serverConfig{
		Addr: "127.0.0.1:0", OpsAddr: "127.0.0.1:0", DataDir: dir, NATSListen: "127.0.0.1:0", StreamReplicas: 1,
		PostgresMaxConns: 16, ShutdownDelay: new(time.Duration), SecretKeys: "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
	}
	s.retain.Events = s.fanout.EventsMaxAge + 24*time.Hour
	s.access.AdminKey = testAdminKey
	s.egress.AllowPrivateCIDRs = "127.0.0.0/8"
	return s
}

// runInProcess runs a role until the test ends and says where it can be reached.
func runInProcess(t *testing.T, s *settings, r role) running.Process {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan running.Process, 1), make(chan error, 1)
	go func() {
		ended <- serveRole(ctx, s, r, host{
			log:   slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
			ready: func(_ context.Context, b banner) error { ready <- b.at; return nil },
		})
	}()
	select {
	case at := <-ready:
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				t.Errorf("%s ended: %v", r, err)
			}
		})
		return at
	case err := <-ended:
		stop()
		t.Fatalf("%s did not start: %v", r, err)
	case <-time.After(patience):
		stop()
		t.Fatalf("%s did not start in %s: %v", r, patience, <-ended)
	}
	return running.Process{}
}

// document is what the tests read of the OpenAPI document.
type document struct {
	Raw        []byte
	Operations []*operation
	Schemas    map[string]*schema
}

// operation is one of the document.
type operation struct {
	Method, Path string

	ID          string `json:"operationId"`
	Summary     string
	Description string
	Scope       string `json:"x-scope"`
	Instead     string `json:"x-scope-instead"` // a scope that is enough as well
	Tags        []string
	Parameters  []struct {
		Name, In    string
		Description string
		Required    bool
		Example     any
		Schema      *schema
	}
	RequestBody *struct{ Content map[string]media } `json:"requestBody"`
	Responses   map[string]response
}

// response is one that an operation describes, or a reference to one of the components.
type response struct {
	Ref     string `json:"$ref"`
	Content map[string]media
}

type media struct {
	Schema  *schema
	Example json.RawMessage
}

// schema is a JSON Schema as huma writes it.
type schema struct {
	Ref        string `json:"$ref"`
	Type       any    // a name, or a list of names
	Format     string
	Pattern    string
	Enum       []any
	Properties map[string]*schema
	Required   []string
	Items      *schema
	OneOf      []*schema `json:"oneOf"`
	AnyOf      []*schema `json:"anyOf"`
	Minimum    *float64
	Maximum    *float64
	MaxItems   *int `json:"maxItems"`
	// MaxProperties bounds a map, whose values AdditionalProperties describes.
	MaxProperties        *int            `json:"maxProperties"`
	AdditionalProperties json.RawMessage `json:"additionalProperties"`
	Examples             []any
	Example              any
}

// ofInstallation says whether the operation is about the installation: no tenant's key may call it.
func (o *operation) ofInstallation() bool { return o.Scope == api.Admin || o.Scope == api.AdminRead }

func (o *operation) String() string { return o.ID + ": " + o.Method + " " + o.Path }

// has says whether the operation has a parameter of this place and name.
func (o *operation) has(in, name string) bool {
	for _, p := range o.Parameters {
		if p.In == in && p.Name == name {
			return true
		}
	}
	return false
}

// pathNames are the parameters in the path.
func (o *operation) pathNames() []string {
	var names []string
	for _, part := range strings.Split(o.Path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			names = append(names, strings.TrimSuffix(name, "}"))
		}
	}
	return names
}

func readDocument(t *testing.T, base string) *document {
	t.Helper()
	var raw json.RawMessage
	if code := get(t, base+"/openapi.json", &raw); code != http.StatusOK {
		t.Fatalf("GET /openapi.json: %d", code)
	}
	var parsed struct {
		Paths      map[string]map[string]*operation
		Components struct {
			Schemas   map[string]*schema
			Responses map[string]response
		}
	}
	if err := json.Unmarshal(raw, &parsed); err != nil {
		t.Fatal(err)
	}
	d := &document{Raw: raw, Schemas: parsed.Components.Schemas}
	for path, methods := range parsed.Paths {
		for method, op := range methods {
			op.Method, op.Path = strings.ToUpper(method), path
			for status, r := range op.Responses {
				if r.Ref != "" {
					op.Responses[status] = parsed.Components.Responses[strings.TrimPrefix(r.Ref, "#/components/responses/")]
				}
			}
			d.Operations = append(d.Operations, op)
		}
	}
	if len(d.Operations) < 30 {
		t.Fatalf("the document has %d operations", len(d.Operations))
	}
	return d
}

// resolve follows a reference.
func (d *document) resolve(s *schema) *schema {
	for s != nil && s.Ref != "" {
		s = d.Schemas[s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]]
	}
	return s
}

// bodyNames are the properties that a JSON body of the operation may have.
func (d *document) bodyNames(o *operation) map[string]bool {
	names := map[string]bool{}
	var walk func(*schema)
	walk = func(s *schema) {
		if s = d.resolve(s); s == nil {
			return
		}
		for name := range s.Properties {
			names[name] = true
		}
		for _, other := range append(s.OneOf, s.AnyOf...) {
			walk(other)
		}
	}
	if o.RequestBody != nil {
		walk(o.RequestBody.Content["application/json"].Schema)
	}
	return names
}

// request is a call of an operation.
type request struct {
	path   map[string]string
	query  url.Values
	body   any // JSON, or as it is if it is bytes
	header http.Header
}

// with returns a copy with a field of the body set.
func (r request) with(name string, value any) request {
	body := map[string]any{}
	if before, ok := r.body.(map[string]any); ok {
		for k, v := range before {
			body[k] = v
		}
	}
	body[name] = value
	r.body = body
	return r
}

// asking returns a copy with a parameter of the query set.
func (r request) asking(name, value string) request {
	query := url.Values{name: {value}}
	for k, v := range r.query {
		if k != name {
			query[k] = v
		}
	}
	r.query = query
	return r
}

// at returns a copy with a parameter of the path set.
func (r request) at(name, value string) request {
	path := map[string]string{}
	for k, v := range r.path {
		path[k] = v
	}
	path[name] = value
	r.path = path
	return r
}

// reply is the answer to a call.
type reply struct {
	status int
	header http.Header
	body   string
}

// send calls an operation with a key, or without one if it is empty, and judges what holds of every answer.
func (d *deployment) send(t *testing.T, key string, o *operation, r request) reply {
	t.Helper()
	target := d.target(o, r)
	got := d.raw(t, key, o.Method, target, r)
	for until := time.Now().Add(patience); got.asksToComeAgain() && time.Now().Before(until); {
		time.Sleep(time.Second)
		got = d.raw(t, key, o.Method, target, r)
	}
	text := fmt.Sprintf("%s (%s %s %.300s)", o, o.Method, target, got.sent)
	if got.status >= 500 {
		t.Errorf("%s: %d %.300s", text, got.status, got.body)
	}
	got.checkProblem(t, text)
	// Paths that lead elsewhere are nobody's.
	if _, documented := o.Responses[fmt.Sprint(got.status)]; !documented && got.status != http.StatusNotFound && got.status != http.StatusMethodNotAllowed {
		t.Errorf("%s: %d is not in the document", text, got.status)
	}
	return got.reply
}

// asksToComeAgain reports whether the answer waits for something that is under way, such as an erasure for deliveries on a slow machine.
func (r reply) asksToComeAgain() bool {
	return r.status == http.StatusServiceUnavailable && r.header.Get("Retry-After") != ""
}

// target is the URL of a call.
func (d *deployment) target(o *operation, r request) string {
	path := o.Path
	for _, name := range o.pathNames() {
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(r.path[name]))
	}
	if len(r.query) == 0 {
		return d.at.API + path
	}
	return d.at.API + path + "?" + r.query.Encode()
}

// answered is a reply with what was sent.
type answered struct {
	reply
	sent []byte
}

func (d *deployment) raw(t *testing.T, key, method, target string, r request) answered {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var body io.Reader
	sent, isBytes := r.body.([]byte)
	if r.body != nil {
		if !isBytes {
			var err error
			if sent, err = json.Marshal(r.body); err != nil {
				t.Fatal(err)
			}
		}
		body = bytes.NewReader(sent)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatalf("%s %s %.300s: %v", method, target, sent, err)
	}
	defer resp.Body.Close()
	got := answered{reply{status: resp.StatusCode, header: resp.Header}, sent}
	got.header.Del("Date")
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return got // It has no end.
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	got.body = string(text)
	return got
}

// checkProblem wants every error to be application/problem+json.
func (r reply) checkProblem(t *testing.T, text string) {
	t.Helper()
	if r.status < 400 {
		return
	}
	var p struct {
		Type, Title string
		Status      int
	}
	if r.header.Get("Content-Type") != "application/problem+json" || json.Unmarshal([]byte(r.body), &p) != nil ||
		p.Type == "" || p.Title == "" || p.Status != r.status {
		t.Errorf("%s: %d is no problem: %s %.300s", text, r.status, r.header.Get("Content-Type"), r.body)
	}
}

// decode reads the body of a reply.
func (r reply) decode(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.body), into); err != nil {
		t.Fatalf("%v in %d %s", err, r.status, r.body)
	}
}

// call asks "METHOD /path" with a key, and fails the test if the answer has another status.
func (d *deployment) call(t *testing.T, key, route string, body any, want int) reply {
	t.Helper()
	method, path, _ := strings.Cut(route, " ")
	got := d.raw(t, key, method, d.at.API+path, request{body: body})
	got.checkProblem(t, route)
	if got.status != want {
		t.Fatalf("%s %.300s: want %d, got %d %.500s", route, got.sent, want, got.status, got.body)
	}
	return got.reply
}

// ownScopes are those that the API itself demands.
var ownScopes = []string{
	"events:write", "events:read", "subscriptions:read", "subscriptions:write", "deliveries:read", "deliveries:write", "keys:write",
}

// key makes a key of a tenant; without scopes, it has all that the API itself demands.
func (d *deployment) key(t *testing.T, tenant string, scopes ...string) string {
	t.Helper()
	if len(scopes) == 0 {
		scopes = ownScopes
	}
	var k struct{ Key string }
	d.call(t, testAdminKey, "POST /v1/keys", map[string]any{"name": "k", "tenant": tenant, "scopes": scopes}, http.StatusCreated).decode(t, &k)
	return k.Key
}

// until asks again and again until the answer is as it should be.
func (d *deployment) until(t *testing.T, key, route string, enough func(reply) bool) reply {
	t.Helper()
	method, path, _ := strings.Cut(route, " ")
	var got reply
	await(t, route+" answers what is wanted", func() bool {
		got = d.raw(t, key, method, d.at.API+path, request{}).reply
		return enough(got)
	})
	return got
}
