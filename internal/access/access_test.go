package access_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

const (
	adminKey = "admin-key-of-the-environment"
	ring     = "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	ring2    = "k2:MTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
)

// clock is the real one, with an offset that tests move.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// process is one process of a deployment: an Access with its routes.
type process struct {
	*access.Access
	*clock
	url    string
	rounds chan struct{} // one for each round of Run
}

func peppers(t testing.TB, rings string) []access.Pepper {
	t.Helper()
	p, err := access.ParsePeppers(rings)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func start(t testing.TB, db *sql.DB, change ...func(*access.Config, *access.Deps)) *process {
	t.Helper()
	p := &process{clock: &clock{}, rounds: make(chan struct{})}
	cfg := access.DefaultConfig()
	cfg.AdminKey = adminKey
	deps := access.Deps{DB: db, Peppers: peppers(t, ring), Now: p.now}
	for _, f := range change {
		f(&cfg, &deps)
	}
	var err error
	if p.Access, err = access.New(cfg, deps); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	routes := api.New(mux, api.Config{Title: "t", Version: "1", CursorKey: []byte("k")}, p.Access)
	p.Routes(routes)
	changes.Routes(routes, changes.NewLog(db), nil)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// run runs the process until the test ends.
func (p *process) run(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.Every(5*time.Millisecond, func() {
		select {
		case p.rounds <- struct{}{}:
		default: // nobody waits
		}
	})
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// call asks "METHOD /path" and decodes the answer into out.
func (p *process) call(t testing.TB, key, what, body string, out any) int {
	t.Helper()
	method, path, _ := strings.Cut(what, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatalf("%s: %d %s: %v", what, resp.StatusCode, text, err)
		}
	}
	return resp.StatusCode
}

type keyAnswer struct {
	ID, Name, Key string
	Tenant        *string
	Scopes        []string
	Admin         bool
	CreatedAt     time.Time  `json:"created_at"`
	ExpiresAt     *time.Time `json:"expires_at"`
	LastUsedAt    *time.Time `json:"last_used_at"`
	Status        int
	Detail        string
	Errors        []struct{ Location string }
	NextCursor    *string `json:"next_cursor"`
	Data          []keyAnswer
}

// create makes a key as the caller and expects 201.
func (p *process) create(t testing.TB, caller, body string) keyAnswer {
	t.Helper()
	var out keyAnswer
	if status := p.call(t, caller, "POST /v1/keys", body, &out); status != http.StatusCreated {
		t.Fatalf("create key %s: %d %+v", body, status, out)
	}
	return out
}

// who asks Authenticate.
func (p *process) who(t testing.TB, key string) (api.Caller, error) {
	t.Helper()
	return p.Authenticate(t.Context(), key)
}

// eventually looks after each round of Run until done says so.
func (p *process) eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for !done() {
		select {
		case <-p.rounds:
		case <-deadline:
			t.Fatalf("never came: %s", what)
		}
	}
}

const acmeKeys = `{"name":"n","tenant":"acme","scopes":["keys:write","events:write","view:purchases"]}`

func TestKeyIsShownOnceAndStoredNowhere(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	k := p.create(t, adminKey, acmeKeys)
	if !strings.HasPrefix(k.Key, "ff_"+k.ID+"_") || len(k.Key) != 65 || *k.Tenant != "acme" || k.Admin || k.ExpiresAt != nil || k.LastUsedAt != nil {
		t.Errorf("got %+v", k)
	}
	if got := fmt.Sprint(k.Scopes); got != "[events:write keys:write view:purchases]" {
		t.Errorf("scopes %s", got)
	}
	c, err := p.who(t, k.Key)
	if err != nil || c.Tenant != "acme" || c.KeyID != k.ID || c.Admin || !c.Has("view:purchases") || c.Has("events:read") {
		t.Errorf("got %+v, %v", c, err)
	}
	var list keyAnswer
	if status := p.call(t, k.Key, "GET /v1/keys", "", &list); status != 200 || len(list.Data) != 1 || list.Data[0].Key != "" || list.Data[0].ID != k.ID {
		t.Errorf("list: %d %+v", status, list)
	}
	var stored string
	if err := db.QueryRow(`SELECT string_agg(keys::text, ' ') FROM keys`).Scan(&stored); err != nil {
		t.Fatal(err)
	}
	if secret := k.Key[len("ff_"+k.ID+"_"):]; strings.Contains(stored, secret) {
		t.Error("the secret is in the table")
	}
}

func TestWhoMayMakeWhichKey(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	tenantKey := p.create(t, adminKey, acmeKeys).Key
	poor := p.create(t, adminKey, `{"name":"n","tenant":"acme","scopes":["events:write"]}`).Key
	madeAdmin := p.create(t, adminKey, `{"name":"n","admin":true}`).Key
	operator := p.create(t, adminKey, `{"name":"n","tenant":null,"scopes":["admin:read","events:read"]}`).Key
	in := func(d time.Duration) string { return p.now().Add(d).UTC().Format(time.RFC3339) }
	for _, tc := range []struct {
		caller, body, location string
		status                 int
	}{
		{tenantKey, `{"name":"n","scopes":["events:write"]}`, "", 201},
		{tenantKey, `{"name":"n","scopes":["events:write","events:write"]}`, "", 201},
		{tenantKey, `{"name":"n","scopes":["events:write"],"tenant":"acme"}`, "", 201},
		{tenantKey, `{"name":"n","scopes":["events:write"],"tenant":"other"}`, "", 403},
		{tenantKey, `{"name":"n","scopes":["events:write","events:read"]}`, "", 403},
		{tenantKey, `{"name":"n","scopes":["view:other"]}`, "", 403},
		{tenantKey, `{"name":"n","admin":true}`, "", 403},
		{tenantKey, `{"name":"n","scopes":["admin"]}`, "body.scopes[0]", 422},
		{tenantKey, `{"name":"n"}`, "body.scopes", 422},
		{tenantKey, `{"name":"n","scopes":[]}`, "body.scopes", 422},
		{tenantKey, `{"scopes":["events:write"]}`, "body.name", 422},
		{tenantKey, `{"name":"n","scopes":["Events Write"]}`, "body.scopes[0]", 422},
		{tenantKey, `{"name":"n","scopes":["events:write"],"id":"x"}`, "body.id", 422},
		{tenantKey, `{"name":"n","scopes":["events:write"],"expires_at":"` + in(-time.Hour) + `"}`, "body.expires_at", 422},
		{tenantKey, `{"name":"n","scopes":["events:write"],"expires_at":"soon"}`, "body.expires_at", 422},
		{tenantKey, `{"name":"n","scopes":["events:write"],"expires_at":"` + in(time.Hour) + `"}`, "", 201},
		{tenantKey, `{"name":"n","scopes":["events:write"],"expires_at":null}`, "", 201},
		{poor, `{"name":"n","scopes":["events:write"]}`, "", 403},
		{adminKey, `{"name":"n","scopes":["anything:at_all"],"tenant":"other"}`, "", 201},
		{adminKey, `{"name":"n","scopes":["events:write"]}`, "query.tenant", 422},
		{adminKey, `{"name":"n","scopes":["events:write"],"tenant":"a.b"}`, "body.tenant", 422},
		{adminKey, `{"name":"n","admin":true,"tenant":"acme"}`, "body.admin", 422},
		{adminKey, `{"name":"n","admin":true,"scopes":["events:write"]}`, "body.admin", 422},
		{madeAdmin, `{"name":"n","scopes":["events:write"],"tenant":"third"}`, "", 201},
		{madeAdmin, `{"name":"n","admin":true}`, "", 201},
		{adminKey, `{"name":"n","scopes":["admin:read"],"tenant":"acme"}`, "body.scopes[0]", 422},
		{tenantKey, `{"name":"n","scopes":["admin:read"]}`, "", 403},
		{tenantKey, `{"name":"n","scopes":["events:write"],"tenant":null}`, "", 403},
		{adminKey, `{"name":"n","scopes":["events:write","keys:write"],"tenant":null}`, "body.scopes[1]", 422},
		{adminKey, `{"name":"n","tenant":null}`, "body.scopes", 422},
		{adminKey, `{"name":"n","admin":true,"tenant":null}`, "", 201},
		{adminKey, `{"name":"n","scopes":["events:write"],"tenant":7}`, "body.tenant", 422},
		{madeAdmin, `{"name":"n","scopes":["events:write","admin:read"],"tenant":null}`, "", 201},
		{operator, `{"name":"n","scopes":["events:read"],"tenant":null}`, "", 403},
		{operator, `{"name":"n","scopes":["events:read"],"tenant":"acme"}`, "", 403},
		{operator, `{"name":"n","admin":true}`, "", 403},
		{"ff_000000000000_0000000000000000000000000000000000000000000", `{}`, "", 401},
		{adminKey + "x", `{}`, "", 401},
	} {
		var out keyAnswer
		status := p.call(t, tc.caller, "POST /v1/keys", tc.body, &out)
		location := ""
		if len(out.Errors) > 0 {
			location = out.Errors[0].Location
		}
		if status != tc.status || location != tc.location {
			t.Errorf("%s: want %d %q, got %d %q %s", tc.body, tc.status, tc.location, status, location, out.Detail)
		}
	}
}

func TestKeyCannotOutliveItsMaker(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	end := p.now().Add(time.Hour).UTC().Truncate(time.Second)
	maker := p.create(t, adminKey, `{"name":"n","tenant":"acme","scopes":["keys:write"],"expires_at":"`+end.Format(time.RFC3339)+`"}`)
	child := p.create(t, maker.Key, `{"name":"n","scopes":["keys:write"]}`)
	if !child.ExpiresAt.Equal(end) {
		t.Errorf("inherits %v", child.ExpiresAt)
	}
	later := end.Add(time.Second).Format(time.RFC3339)
	if status := p.call(t, maker.Key, "POST /v1/keys", `{"name":"n","scopes":["keys:write"],"expires_at":"`+later+`"}`, nil); status != 403 {
		t.Errorf("later than its maker: %d", status)
	}
	if _, err := p.who(t, child.Key); err != nil {
		t.Errorf("before the end: %v", err)
	}
	p.advance(time.Hour + time.Second)
	for _, key := range []string{maker.Key, child.Key} {
		if _, err := p.who(t, key); !errors.Is(err, api.ErrUnauthenticated) {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestRevocationReachesEveryProcess(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	here, there, running := start(t, db), start(t, db), start(t, db)
	running.run(t)
	k := here.create(t, adminKey, acmeKeys)
	for _, p := range []*process{here, there, running} {
		if _, err := p.who(t, k.Key); err != nil {
			t.Fatal(err)
		}
	}
	if status := here.call(t, k.Key, "DELETE /v1/keys/"+k.ID, "", nil); status != 204 {
		t.Fatalf("revoke: %d", status)
	}
	if _, err := here.who(t, k.Key); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("here: %v", err)
	}
	there.advance(3 * time.Second)
	if _, err := there.who(t, k.Key); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("elsewhere after 3 s: %v", err)
	}
	running.eventually(t, "the end of the key in a process that runs", func() bool {
		_, err := running.who(t, k.Key)
		return errors.Is(err, api.ErrUnauthenticated)
	})
	if status := here.call(t, adminKey, "DELETE /v1/keys/"+k.ID, "", nil); status != 404 {
		t.Errorf("revoke again: %d", status)
	}
}

// A key over all tenants is no admin's: it does what its scopes say, and belongs to no tenant that could revoke or erase it.
func TestKeyOverAllTenants(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	p.run(t)
	k := p.create(t, adminKey, `{"name":"support","tenant":null,"scopes":["admin:read","deliveries:read"]}`)
	if k.Tenant != nil || k.Admin || fmt.Sprint(k.Scopes) != "[admin:read deliveries:read]" {
		t.Errorf("got %+v", k)
	}
	c, err := p.who(t, k.Key)
	if err != nil || c.Tenant != "" || c.Admin || !c.OverAll() || !c.Has(api.AdminRead) || c.Has(api.Admin) || c.Has("events:read") {
		t.Errorf("got %+v, %v", c, err)
	}
	maker := p.create(t, adminKey, `{"name":"n","tenant":"acme","scopes":["keys:write"]}`)
	for _, tc := range []struct {
		key, what, body string
		status          int
	}{
		{k.Key, "GET /v1/tenants", "", 200},
		{k.Key, "GET /v1/tenants/acme", "", 200},
		{k.Key, "GET /v1/tenants?tenant=acme", "", 200},
		{k.Key, "PUT /v1/tenants/acme", `{"name":"mine"}`, 403},
		{k.Key, "DELETE /v1/tenants/acme", "", 403},
		{k.Key, "GET /v1/keys", "", 403},
		{k.Key, "DELETE /v1/keys/" + maker.ID + "?tenant=acme", "", 403},
		{k.Key, "PATCH /v1/keys/" + k.ID, `{"scopes":["events:read"]}`, 405},
		{k.Key, "PUT /v1/keys/" + k.ID, `{"scopes":["events:read"]}`, 405},
		{k.Key, "GET /v1/changes?resource=tenant", "", 200},
		{k.Key, "GET /v1/changes?resource=key", "", 200},
		{maker.Key, "DELETE /v1/keys/" + k.ID, "", 404},
		{adminKey, "DELETE /v1/keys/" + k.ID + "?tenant=acme", "", 404},
		{adminKey, "DELETE /v1/tenants/acme", "", 202},
		{k.Key, "GET /v1/tenants", "", 200},
		{adminKey, "DELETE /v1/keys/" + k.ID, "", 204},
	} {
		if status := p.call(t, tc.key, tc.what, tc.body, nil); status != tc.status {
			t.Errorf("%s: want %d, got %d", tc.what, tc.status, status)
		}
	}
	if _, err := p.who(t, k.Key); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("revoked: %v", err)
	}
}

// Keys over all tenants read what they hold of the history, and no more.
func TestChangesThatAKeyOverAllTenantsSees(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	p.create(t, adminKey, acmeKeys)
	p.call(t, adminKey, "PUT /v1/tenants/acme", `{"name":"A"}`, nil)
	auditor := p.create(t, adminKey, `{"name":"n","tenant":null,"scopes":["admin:read"]}`).Key
	narrow := p.create(t, adminKey, `{"name":"n","tenant":null,"scopes":["subscriptions:read"]}`).Key
	for _, tc := range []struct {
		key, query string
		status     int
		seen       int
	}{
		{auditor, "", 200, 5}, {auditor, "?resource=key", 200, 3}, {auditor, "?resource=tenant", 200, 2}, {auditor, "?tenant=acme", 200, 3},
		{auditor, "?actor=admin", 200, 5}, {auditor, "?actor=system", 200, 0},
		{narrow, "", 200, 0}, {narrow, "?resource=key", 403, 0}, {narrow, "?resource=tenant", 403, 0},
	} {
		var list struct{ Data []json.RawMessage }
		if status := p.call(t, tc.key, "GET /v1/changes"+tc.query, "", &list); status != tc.status || len(list.Data) != tc.seen {
			t.Errorf("%q: got %d, %d changes, want %d, %d", tc.query, status, len(list.Data), tc.status, tc.seen)
		}
	}
}

func TestForeignKeysDoNotExist(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	acme := p.create(t, adminKey, acmeKeys)
	other := p.create(t, adminKey, `{"name":"n","tenant":"other","scopes":["keys:write"]}`)
	admin := p.create(t, adminKey, `{"name":"n","admin":true}`)
	for _, id := range []string{acme.ID, admin.ID, "000000000000", "x", "0198f000-0000-7000-8000-000000000000", strings.Repeat("a", 1000)} {
		var out keyAnswer
		if status := p.call(t, other.Key, "DELETE /v1/keys/"+id, "", &out); status != 404 || out.Detail != "there is nothing here" {
			t.Errorf("%.20s: %d %s", id, status, out.Detail)
		}
	}
	if status := p.call(t, adminKey, "DELETE /v1/keys/"+acme.ID+"?tenant=other", "", nil); status != 404 {
		t.Errorf("admin in another tenant: %d", status)
	}
	for key, want := range map[string]int{acme.Key: 1, other.Key: 1, adminKey: 3, admin.Key: 3} {
		var list keyAnswer
		if p.call(t, key, "GET /v1/keys", "", &list); len(list.Data) != want {
			t.Errorf("list of %d keys, want %d", len(list.Data), want)
		}
	}
	if status := p.call(t, adminKey, "DELETE /v1/keys/"+admin.ID, "", nil); status != 204 {
		t.Errorf("admin key: %d", status)
	}
	if _, err := p.who(t, admin.Key); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("revoked admin key: %v", err)
	}
}

func TestListOfKeysPages(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	var made []string
	for range 7 {
		made = append(made, p.create(t, adminKey, acmeKeys).ID)
	}
	for order, first := range map[string]string{"desc": made[6], "asc": made[0]} {
		var seen []string
		path := "/v1/keys?tenant=acme&limit=2&order=" + order
		for next := path; ; {
			var list keyAnswer
			if status := p.call(t, adminKey, "GET "+next, "", &list); status != 200 {
				t.Fatalf("%s: %d", next, status)
			}
			for _, k := range list.Data {
				seen = append(seen, k.ID)
			}
			if list.NextCursor == nil {
				break
			}
			next = path + "&cursor=" + *list.NextCursor
		}
		if len(seen) != 7 || seen[0] != first {
			t.Errorf("%s: %v of %v", order, seen, made)
		}
	}
}

func TestLastUse(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	stop := p.run(t)
	k := p.create(t, adminKey, acmeKeys)
	lastUse := func() (at sql.NullTime) {
		if err := db.QueryRow(`SELECT last_used_at FROM keys WHERE id = $1`, k.ID).Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	use := func() {
		if _, err := p.who(t, k.Key); err != nil {
			t.Fatal(err)
		}
	}
	if lastUse().Valid {
		t.Error("used before its first use")
	}
	use()
	p.eventually(t, "the last use", func() bool { return lastUse().Valid })
	first := lastUse().Time
	p.advance(59 * time.Second)
	use()
	p.advance(2 * time.Second)
	use()
	p.eventually(t, "the next last use", func() bool { return lastUse().Time.After(first) })
	if d := lastUse().Time.Sub(first); d < time.Minute {
		t.Errorf("written again after %v", d)
	}
	p.advance(time.Hour)
	use()
	stop()
	if d := lastUse().Time.Sub(first); d < time.Hour {
		t.Errorf("what was used is lost at the end: %v", d)
	}
}

// Nobody is let in, and nobody is told that his key is wrong.
func TestWithoutPostgres(t *testing.T) {
	t.Parallel()
	pg := servertest.NewRestartablePostgres(t)
	db, err := postgres.Open(t.Context(), pg.URL(), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	p := start(t, db)
	k, unseen := p.create(t, adminKey, acmeKeys), p.create(t, adminKey, acmeKeys)
	if _, err := p.who(t, k.Key); err != nil {
		t.Fatal(err)
	}
	pg.Stop()
	if _, err := p.who(t, k.Key); err != nil {
		t.Errorf("within what is believed: %v", err)
	}
	if status := p.call(t, k.Key+"x", "GET /v1/keys", "", nil); status != 401 {
		t.Errorf("a malformed key: %d", status)
	}
	p.advance(3 * time.Second)
	for name, key := range map[string]string{"known": k.Key, "unseen": unseen.Key, "unknown": "ff_000000000000_" + strings.Repeat("0", 43)} {
		if status := p.call(t, key, "GET /v1/keys", "", nil); status != 503 {
			t.Errorf("%s key: want 503, got %d", name, status)
		}
	}
	if c, err := p.who(t, adminKey); err != nil || !c.Admin {
		t.Errorf("admin key: %+v, %v", c, err)
	}
	if status := p.call(t, adminKey, "GET /v1/keys", "", nil); status != 503 {
		t.Errorf("a list: %d", status)
	}
	pg.Start()
	if err := postgres.Retry(t.Context(), db, func(context.Context, *sql.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := p.who(t, k.Key); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

// However many wrong keys come from an address, no valid key of it is refused, seen by this process before or not.
func TestWrongKeysRefuseNoValidKey(t *testing.T) {
	t.Parallel()
	db := servertest.Postgres(t)
	p := start(t, db)
	var valid []string
	for range 20 {
		valid = append(valid, p.create(t, adminKey, acmeKeys).Key)
	}
	fresh := start(t, db) // has seen none of them
	wrong := []func(i int) string{
		func(i int) string { return "garbage" },
		func(i int) string { return fmt.Sprintf("ff_%012d_%049d", i, i) },
		func(i int) string { return fmt.Sprintf("ff_%012d_%043d", i, i) },
		func(i int) string { return "fft_guess" },
	}
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 500 {
				if status := fresh.call(t, wrong[i%len(wrong)](worker*1000+i), "GET /v1/keys", "", nil); status != 401 {
					t.Errorf("a wrong key: %d", status)
				}
			}
		})
	}
	for _, key := range valid {
		if status := fresh.call(t, key, "GET /v1/keys", "", nil); status != 200 {
			t.Errorf("a valid key: %d", status)
		}
	}
	all.Wait()
}

// A key with a wrong checksum is judged without Postgres. Keys of the former form have none.
func TestGarbageCostsNoQuery(t *testing.T) {
	t.Parallel()
	pg := servertest.NewRestartablePostgres(t)
	db, err := postgres.Open(t.Context(), pg.URL(), 4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	p := start(t, db)
	former := access.FormerKey(t.Context(), p.Access, "acme")
	if c, err := p.who(t, former); err != nil || c.Tenant != "acme" {
		t.Errorf("a key of the former form: %+v, %v", c, err)
	}
	k := p.create(t, adminKey, acmeKeys)
	garbage := []string{"garbage", "a.b.c", "ff_" + strings.Repeat("0", 12) + "_" + strings.Repeat("0", 49), k.Key[:len(k.Key)-1] + "!"}
	for i := len("ff_"); i < len(k.Key); i++ {
		if k.Key[i] != '_' && k.Key[i] != 'x' {
			garbage = append(garbage, k.Key[:i]+"x"+k.Key[i+1:])
		}
	}
	pg.Stop()
	for _, key := range garbage {
		if _, err := p.who(t, key); !errors.Is(err, api.ErrUnauthenticated) {
			t.Errorf("%s: %v", key, err)
		}
	}
	pg.Start()
}

func TestUnknownIDsAreRememberedInBounds(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	k := p.create(t, adminKey, acmeKeys)
	if _, err := p.who(t, k.Key); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for worker := range 50 {
		all.Go(func() {
			for i := range 200 {
				key := fmt.Sprintf("ff_%06d%06d_%043d", worker, i, 0)
				if _, err := p.Authenticate(t.Context(), key); !errors.Is(err, api.ErrUnauthenticated) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	keys, unknown := p.Remembered()
	if keys != 1 || unknown > 1<<13 {
		t.Errorf("%d keys, %d unknown", keys, unknown)
	}
}

func TestWrongSecretsOfAKey(t *testing.T) {
	t.Parallel()
	p := start(t, servertest.Postgres(t))
	k := p.create(t, adminKey, acmeKeys)
	flip := func(i int) string {
		c := byte('0')
		if k.Key[i] == c {
			c = '1'
		}
		return k.Key[:i] + string(c) + k.Key[i+1:]
	}
	wrong := []string{"", "ff_", k.ID, k.Key + "0", k.Key[:len(k.Key)-1], strings.ToUpper(k.Key), " " + k.Key, "ff__" + k.Key[3:], k.Key + "\x00",
		"FF" + k.Key[2:], "ff_" + k.ID + "_" + strings.Repeat("0", 43), strings.Repeat("a", 1<<16), "a.b.c", adminKey[:len(adminKey)-1]}
	for i := range k.Key {
		wrong = append(wrong, flip(i))
	}
	for _, key := range wrong {
		if c, err := p.who(t, key); !errors.Is(err, api.ErrUnauthenticated) {
			t.Errorf("%.80q: %+v, %v", key, c, err)
		}
	}
	if _, err := p.who(t, k.Key); err != nil {
		t.Error(err)
	}
}

func TestAdminKeyMayLookLikeAKey(t *testing.T) {
	t.Parallel()
	shaped := "ff_000000000000_" + strings.Repeat("a", 43)
	p := start(t, servertest.Postgres(t), func(cfg *access.Config, _ *access.Deps) { cfg.AdminKey = shaped })
	if c, err := p.who(t, shaped); err != nil || !c.Admin {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := p.who(t, adminKey); !errors.Is(err, api.ErrUnauthenticated) {
		t.Errorf("another one: %v", err)
	}
	k := p.create(t, shaped, acmeKeys)
	if _, err := p.who(t, k.Key); err != nil {
		t.Error(err)
	}
}
