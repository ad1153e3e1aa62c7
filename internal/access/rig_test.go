package access_test

import (
	"context"
	"database/sql"
	"encoding/json"
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
