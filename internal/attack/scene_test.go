package attack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// scenes gives each scene tenants of its own.
var scenes atomic.Int64

// scene is where one attack happens: a running fanfare, an attacker and the receivers of both.
type scene struct {
	*testing.T
	form
	on       *fanfare
	number   int64
	admin    *client
	attacker *client
	at       map[string]*receiver // by URL without a path

	ctx context.Context // ends with the attack
	wg  *sync.WaitGroup // the attack's goroutines

	complained atomic.Bool
}

func newScene(t *testing.T, on *fanfare, f form) *scene {
	s := &scene{T: t, form: f, on: on, number: scenes.Add(1), ctx: context.Background(), wg: &sync.WaitGroup{}, at: map[string]*receiver{}}
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	t.Cleanup(transport.CloseIdleConnections)
	s.admin = &client{base: on.api, key: on.adminKey, http: &http.Client{Transport: transport, Timeout: 2 * time.Minute}}
	s.attacker = s.tenant(s.named("attacker"))
	return s
}

// named makes a name that no other scene has.
func (s *scene) named(what string) string { return fmt.Sprintf("%s%d", what, s.number) }

// size is how much of something an attack uses.
func (s *scene) size(short, full int) int {
	if *long {
		return full
	}
	return short
}

// everything is the scopes of an ordinary tenant's key.
const everything = "events:write events:read subscriptions:read subscriptions:write deliveries:read deliveries:write"

// tenant makes a key of a tenant.
func (s *scene) tenant(name string, more ...string) *client {
	return s.key(name, append(strings.Fields(everything), more...)...)
}

// key makes a key with these scopes.
func (s *scene) key(tenant string, scopes ...string) *client {
	s.Helper()
	var made struct{ ID, Key string }
	s.admin.must(s, "POST /v1/keys", object{"name": "attack", "tenant": tenant, "scopes": scopes}, &made)
	return &client{base: s.on.api, key: made.Key, id: made.ID, tenant: tenant, http: s.admin.http}
}

// under measures the victim while the attack runs, and waits for the attack's end.
func (s *scene) under(v *victim, strike func(*scene)) sample {
	ctx, over := context.WithCancel(context.Background())
	defer over()
	s.ctx = ctx
	if strike != nil {
		strike(s)
	}
	got := v.run(s.window)
	over()
	s.wg.Wait()
	v.settle(&got, s.patience)
	return got
}

// again runs n loops that call do until the attack is over, with a pause between.
func (s *scene) again(n int, pause time.Duration, do func()) {
	ctx := s.ctx
	for range n {
		s.wg.Go(func() {
			timer := time.NewTimer(pause)
			defer timer.Stop()
			for ctx.Err() == nil {
				do()
				timer.Reset(pause)
				select {
				case <-ctx.Done():
				case <-timer.C:
				}
			}
		})
	}
}

// eventually fails the test if it does not become so.
func (s *scene) eventually(what string, so func() bool) {
	s.Helper()
	if !eventually(s.patience, so) {
		s.Errorf("waited %s in vain until %s", s.patience, what)
	}
}

// unexpected fails the test by an answer; of thousands alike, one is shown.
func (s *scene) unexpected(what string, status int, answer []byte) {
	s.Helper()
	if s.complained.CompareAndSwap(false, true) {
		s.Errorf("%s: got %d %.300s", what, status, answer)
	}
}

type object map[string]any

// client speaks the API with one key.
type client struct {
	base, key, id, tenant string
	http                  *http.Client
}

// open begins a request such as "GET /v1/tail".
func (c *client) open(ctx context.Context, route string, body []byte) (*http.Response, error) {
	method, path, _ := strings.Cut(route, " ")
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.http.Do(req)
}

// call returns the answer's status, 0 if there was none; in is bytes or becomes JSON.
func (c *client) call(ctx context.Context, route string, in any) (int, []byte) {
	body, raw := in.([]byte)
	if in != nil && !raw {
		var err error
		if body, err = json.Marshal(in); err != nil {
			panic(err) // The tests made it.
		}
	}
	resp, err := c.open(ctx, route, body)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, []byte(err.Error())
	}
	return resp.StatusCode, answer
}

// must calls and fails the test unless it succeeds. The attack's goroutines may call it.
func (c *client) must(s *scene, route string, in, out any) {
	s.Helper()
	status, answer := c.call(context.Background(), route, in)
	if status/100 != 2 {
		s.Errorf("%s: %d %.500s", route, status, answer)
		return
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			s.Errorf("%s: %v", route, err)
		}
	}
}

// subscribe makes a subscription and returns its id.
func (c *client) subscribe(s *scene, url, eventType string, more ...object) string {
	s.Helper()
	sub := object{"name": "attack", "url": url, "event_types": []string{eventType}}
	for _, m := range more {
		for k, v := range m {
			sub[k] = v
		}
	}
	var made struct{ ID string }
	c.must(s, "POST /v1/subscriptions", sub, &made)
	return made.ID
}

// batch is the body of one publication of n events.
func batch(n int, eventType string, data any) []byte {
	events := make([]object, n)
	for i := range events {
		events[i] = object{"type": eventType, "data": data}
	}
	body, err := json.Marshal(events)
	if err != nil {
		panic(err) // The tests made it.
	}
	return body
}

// page is a list's answer.
type page struct {
	Data []struct{ ID, State, Reason string }
}

// list reads the first 500 of a list.
func (c *client) list(s *scene, path string) page {
	s.Helper()
	var p page
	c.must(s, "GET "+path, nil, &p)
	return p
}
