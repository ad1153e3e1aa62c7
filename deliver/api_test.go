package deliver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/api"
	past "github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// keys are the callers of the tests: the credential is the tenant, or the scope that it lacks, or "admin".
type keys struct{}

func (keys) Authenticate(_ context.Context, credential string) (api.Caller, error) {
	switch credential {
	case "admin":
		return api.Caller{Admin: true}, nil
	case "reader":
		return api.Caller{Tenant: "acme", Scopes: []string{"deliveries:read"}}, nil
	case "nobody":
		return api.Caller{}, api.ErrUnauthenticated
	default:
		return api.Caller{Tenant: credential, Scopes: []string{"deliveries:read", "deliveries:write", "events:read"}}, nil
	}
}

// client calls the routes.
type client struct {
	t   testing.TB
	url string
}

func (r *rig) api() client {
	r.T.Helper()
	mux := http.NewServeMux()
	events := must(deliver.NewEvents(deliver.EventsConfig{Read: r.read}, r.DB))(r.T)
	directory := subscriptions.NewDirectory(r.DB, r.Ring, r.Log)
	history.Routes(api.New(mux, api.Config{Title: "test", Version: "1"}, keys{}), history.RoutesDeps{
		DB: r.DB, Events: events, Past: subscriptions.Past{Changes: past.NewLog(r.DB), Directory: directory},
		Requests: webhook.NewRequests(webhook.Formats()), Types: directory,
	})
	server := httptest.NewServer(mux)
	r.T.Cleanup(server.Close)
	return client{t: r.T, url: server.URL}
}

// raw calls a route as somebody; the test fails if the status of the answer is another one.
func (c client) raw(who, method, path string, want int) (body []byte, header http.Header) {
	c.t.Helper()
	req := must(http.NewRequestWithContext(c.t.Context(), method, c.url+path, nil))(c.t)
	req.Header.Set("Authorization", "Bearer "+who)
	resp := must(http.DefaultClient.Do(req))(c.t)
	defer resp.Body.Close()
	body = must(io.ReadAll(resp.Body))(c.t)
	if resp.StatusCode != want {
		c.t.Fatalf("%s %s: got %d, want %d: %s", method, path, resp.StatusCode, want, body)
	}
	return body, resp.Header
}

// do calls a route as raw does and returns the answer's body.
func (c client) do(who, method, path string, want int) map[string]any {
	c.t.Helper()
	body, _ := c.raw(who, method, path, want)
	var v map[string]any
	if err := json.Unmarshal(body, &v); err != nil {
		c.t.Fatalf("%s %s: %v in %s", method, path, err, body)
	}
	return v
}

// ids are the ids of a list's items.
func ids(list map[string]any) (ids []string) {
	for _, item := range list["data"].([]any) {
		ids = append(ids, item.(map[string]any)["id"].(string))
	}
	return ids
}

// ledgered writes a delivery of each state at times of its own and returns their ids, the oldest first.
func (r *rig) ledgered(sub *subscriptions.Subscription, tenant string, n int) []string {
	r.T.Helper()
	var records []*outcome.Record
	var list []string
	for i := range n {
		at := time.Date(2026, 11, 20, 10, 0, i, 0, time.UTC)
		e := event.Event{ID: fmt.Sprintf("%s_%d", tenant, i), Tenant: tenant, Type: "order." + []string{"created", "paid"}[i%2], AcceptedAt: at, Seq: uint64(i)}
		e.UID = event.UID(e.Tenant, e.ID, at)
		rec := became(delivery(&e, sub.ID), []outcome.Outcome{outcome.Delivered, outcome.Later, outcome.Dead, outcome.Cancelled}[i%4], outcome.ReasonServer, at.Add(time.Minute))
		rec.Attempts = 1
		rec.Attempt = &outcome.Made{Number: 1, StartedAt: at, Micros: 41_400, Status: 500, Response: []byte("oops"), Reason: outcome.ReasonServer}
		if rec.Outcome == outcome.Later {
			rec.At = time.Now().Add(time.Hour)
		}
		records = append(records, rec)
		list = append(list, rec.Delivery.String())
		if _, err := r.DB.Exec(`INSERT INTO events (uid, tenant, id, type, time, accepted_at, seq, matched, hash) VALUES ($1, $2, $3, $4, $5, $5, $6, 1, '')`,
			e.UID, tenant, e.ID, e.Type, at, i); err != nil {
			r.T.Fatal(err)
		}
	}
	if err := ledger.New(r.DB).Write(r.T.Context(), records); err != nil {
		r.T.Fatal(err)
	}
	return list
}

// every returns each n-th of a list from a place on, newest first.
func every(list []string, n, from int) (some []string) {
	for i := from; i < len(list); i += n {
		some = append(some, list[i])
	}
	slices.Reverse(some)
	return some
}
