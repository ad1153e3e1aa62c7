package subscriptions_test

import (
	"context"
	"crypto/elliptic"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// policy lets URLs lead to this machine.
var policy = egress.Policy{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// bundle is a store and a directory over a database of the test's own.
type bundle struct {
	db    *sql.DB
	key   string // of the ring
	ring  *seal.Ring
	store *subscriptions.Store
	dir   *subscriptions.Directory
}

func setup(t testing.TB) *bundle {
	t.Helper()
	key := seal.NewKey()
	ring, err := seal.ParseRing(key)
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{db: servertest.Postgres(t), key: key, ring: ring}
	b.store = subscriptions.New(b.db, ring, policy)
	b.dir = b.directory()
	return b
}

// directory makes another one, as another process would.
func (b *bundle) directory() *subscriptions.Directory {
	return subscriptions.NewDirectory(b.db, b.ring, slog.New(slog.DiscardHandler))
}

// example has every field set.
func example(t testing.TB) *subscriptions.Subscription {
	t.Helper()
	certificate, key := identity(t, ecdsaKey(t, elliptic.P256()), time.Now().Add(time.Hour))
	return &subscriptions.Subscription{
		Tenant: "acme", Name: "Orders to ERP", Description: "first\nsecond", URL: "https://erp.example.com/hooks?a=b",
		EventTypes: []string{"order.*", "invoice.paid"}, ResourceID: "123", Changed: []string{"status", "a,b"},
		Filter: "event.data.total > 100.0", Headers: map[string]string{"X-Env": "prod"}, PayloadFormat: "raw",
		ContentType: "application/vnd.acme+json",
		Auth: &subscriptions.Auth{
			Type: subscriptions.AuthOAuth2, TokenURL: "https://login.example.com/", ClientID: "c", ClientSecret: "s", Scopes: []string{"x"},
		},
		Certificate: &subscriptions.ClientCertificate{Certificate: certificate, Key: key},
		Retry:       subscriptions.Retry{Schedule: []time.Duration{time.Millisecond, time.Hour}, MaxRetries: new(0)},
		Timeout:     5 * time.Second, MaxInFlight: 7, RateLimit: &subscriptions.RateLimit{Limit: 100, Per: time.Second},
		Ordering: &subscriptions.Ordering{Key: "event.data.order", OnDead: subscriptions.StopOnDead},
		Signing:  subscriptions.SignEd25519, Secrets: []subscriptions.Secret{subscriptions.NewSecret(subscriptions.SignEd25519)},
		Metadata: map[string]string{"team": "ünïcode"}, Scopes: []string{"subscriptions:write", "view:purchases"},
	}
}

// plain is the least that a subscription needs.
func plain(tenant string, types ...string) *subscriptions.Subscription {
	return &subscriptions.Subscription{
		Tenant: tenant, Name: "plain", URL: "https://example.com/", EventTypes: types, Scopes: []string{subscriptions.AllScopes},
	}
}

func (b *bundle) create(t testing.TB, s *subscriptions.Subscription) *subscriptions.Subscription {
	t.Helper()
	if err := b.store.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return s
}

// createType makes an event type of all tenants that demands a scope.
func (b *bundle) createType(t testing.TB, name, scope string) {
	t.Helper()
	if err := b.store.CreateEventType(t.Context(), &subscriptions.EventType{Name: name, Scopes: []string{scope}}); err != nil {
		t.Fatal(err)
	}
}

func (b *bundle) fresh(t testing.TB) int64 {
	t.Helper()
	revision, err := b.dir.Fresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

func (b *bundle) rows(t *testing.T, query string) (n int) {
	t.Helper()
	if err := b.db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// callers knows keys by their name.
type callers map[string]api.Caller

func (c callers) Authenticate(_ context.Context, credential string) (api.Caller, error) {
	caller, ok := c[credential]
	if !ok {
		return api.Caller{}, api.ErrUnauthenticated
	}
	return caller, nil
}

var someCallers = callers{
	"admin":  {Admin: true},
	"acme":   {Tenant: "acme", KeyID: "1", Name: "A", Scopes: []string{"subscriptions:read", "subscriptions:write", "events:read"}},
	"viewer": {Tenant: "acme", Scopes: []string{"subscriptions:read", "subscriptions:write", "events:read", "view:purchases"}},
	"reader": {Tenant: "acme", Scopes: []string{"subscriptions:read"}},
	"globex": {Tenant: "globex", Scopes: []string{"subscriptions:read", "subscriptions:write", "events:read"}},
}

// site is the API over a bundle.
type site struct {
	*bundle
	*httptest.Server
	api    huma.API
	recent someEvents
}

// someEvents stand for the newest events of any type, newest first.
type someEvents []*event.Event

func (s someEvents) Each(_ context.Context, tenant, eventType string, take func(*event.Event) bool) error {
	for _, e := range s {
		if e.Type == eventType && (tenant == "" || e.Tenant == tenant) && !take(e) {
			return nil
		}
	}
	return nil
}

func serve(t testing.TB) *site {
	t.Helper()
	s := &site{bundle: setup(t)}
	mux := http.NewServeMux()
	s.api = api.New(mux, api.Config{Title: "Fanfare", Version: "1", CursorKey: []byte("key")}, someCallers)
	subscriptions.Routes(s.api, s.store, &s.recent)
	changes.Routes(s.api, changes.NewLog(s.db), nil)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

// locations are those of a problem's errors.
func (r reply) locations() string {
	var all []string
	list, _ := r.body["errors"].([]any)
	for _, e := range list {
		all = append(all, fmt.Sprint(e.(map[string]any)["location"]))
	}
	return strings.Join(all, " ")
}

// call asks "<key> METHOD /path".
func (s *site) call(t testing.TB, what, body string, headers ...string) reply {
	t.Helper()
	key, request, _ := strings.Cut(what, " ")
	method, path, _ := strings.Cut(request, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-API-Key", key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := reply{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &r.body); err != nil && text[0] == '{' {
			t.Fatalf("%s: %v in %s", what, err, text)
		}
	}
	return r
}

// want calls and demands a status.
func (s *site) want(t testing.TB, status int, what, body string, headers ...string) reply {
	t.Helper()
	r := s.call(t, what, body, headers...)
	if r.status != status {
		t.Errorf("%s with %.200s: got %d %s, want %d", what, body, r.status, r.text, status)
	}
	return r
}

const least = `{"name":"n","url":"https://example.com/","event_types":["a"]}`

// with is the least body and one more field.
func with(field, value string) string {
	return strings.TrimSuffix(least, "}") + `,"` + field + `":` + value + "}"
}

func (s *site) post(t testing.TB, key, body string) (id string, r reply) {
	t.Helper()
	r = s.want(t, 201, key+" POST /v1/subscriptions", body)
	return fmt.Sprint(r.body["id"]), r
}
