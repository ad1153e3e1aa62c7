package subscriptions_test

import (
	"context"
	"strings"
	"sync"
	"testing"
)

func TestListsUnderConcurrentInserts(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const before = 23
	want := map[string]bool{}
	for range before {
		id, _ := s.post(t, "acme", least)
		want[id] = true
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := s.store.Create(t.Context(), plain("acme", "a")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for _, order := range []string{"desc", "asc"} {
		seen := map[string]bool{}
		cursor := ""
		for pages := 0; pages < 10_000; pages++ {
			r := s.want(t, 200, "acme GET /v1/subscriptions?limit=5&order="+order+cursor, "")
			data := r.body["data"].([]any)
			for _, item := range data {
				id := item.(map[string]any)["id"].(string)
				if seen[id] {
					t.Fatalf("%s: %s comes twice", order, id)
				}
				seen[id] = true
			}
			next, more := r.body["next_cursor"].(string)
			done := true
			for id := range want {
				done = done && seen[id]
			}
			if !more || done {
				break
			}
			cursor = "&cursor=" + next
		}
		for id := range want {
			if !seen[id] {
				t.Errorf("%s: %s is left out", order, id)
			}
		}
	}
	cancel()
	wg.Wait()
}

func TestListParameters(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.post(t, "acme", with("description", `"Needle"`))
	id, _ := s.post(t, "acme", strings.Replace(with("status", `"paused"`), `["a"]`, `["b.*"]`, 1))
	for query, want := range map[string]int{
		"": 2, "?event_type=a": 1, "?event_type=b.c": 1, "?event_type=b.*": 1, "?event_type=x": 0, "?status=paused": 1, "?status=disabled": 0,
		"?q=nEEdle": 1, "?q=%25": 0, "?q=example.com": 2, "?limit=1": 1, "?dialect=native": 2, "?dialect=leat": 0,
	} {
		r := s.want(t, 200, "acme GET /v1/subscriptions"+query, "")
		if got := len(r.body["data"].([]any)); got != want {
			t.Errorf("%s: got %d, want %d", query, got, want)
		}
	}
	for _, query := range []string{"?limit=501", "?limit=0", "?limit=x", "?status=on", "?order=up", "?cursor=x", "?event_type=a..b", "?event_type='", "?dialect=x"} {
		s.want(t, 422, "acme GET /v1/subscriptions"+query, "")
	}
	first := s.want(t, 200, "acme GET /v1/subscriptions?limit=1", "")
	if !strings.Contains(first.text, id) {
		t.Errorf("the newest does not come first: %s", first.text)
	}
	cursor := first.body["next_cursor"].(string)
	s.want(t, 200, "acme GET /v1/subscriptions?limit=1&cursor="+cursor, "")
	s.want(t, 422, "globex GET /v1/subscriptions?limit=1&cursor="+cursor, "")
}
