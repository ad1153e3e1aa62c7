package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// producer publishes events of one tenant and records every request with its answer. What gets no 2xx it sends again
// with the same id, as the documents ask.
type producer struct {
	rec    *recorder
	tenant string
	key    string
	doors  []string // host:port of the processes that take events
	rate   float64  // events a second
	types  []string
	random *rand.Rand
	http   *http.Client
	made   atomic.Int64
}

// outgoing is one event until it is accepted.
type outgoing struct{ id, eventType, data string }

// run publishes until ctx ends; then each event that is on its way has until the end of patience to be accepted.
func (p *producer) run(ctx, patience context.Context) {
	var sends sync.WaitGroup
	defer sends.Wait()
	limit := make(chan struct{}, 64) // While nothing is accepted, producers wait too.
	tick := time.NewTicker(time.Duration(float64(time.Second) / p.rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		events := p.make()
		door, again := p.random.IntN(len(p.doors)), p.random.IntN(20) == 0
		limit <- struct{}{}
		sends.Go(func() {
			defer func() { <-limit }()
			p.publish(patience, events, door)
			if again { // A repeat of what was accepted; and another event under the same id, which must be refused.
				p.send(patience, events, door+1)
				other := events[0]
				other.data = `{"other":true}`
				p.send(patience, []outgoing{other}, door)
			}
		})
	}
}

// make makes the events of one request: mostly one.
func (p *producer) make() []outgoing {
	n := 1
	if p.random.IntN(8) == 0 {
		n = 2 + p.random.IntN(5)
	}
	events := make([]outgoing, n)
	for i := range events {
		k := p.made.Add(1)
		events[i] = outgoing{
			id: fmt.Sprintf("%s-%d", p.tenant, k), eventType: p.types[p.random.IntN(len(p.types))],
			data: fmt.Sprintf(`{"n":%d,"text":"%x","exact":12345678901234567890.10}`, k, p.random.Uint64()),
		}
	}
	return events
}

// publish sends until every event is accepted.
func (p *producer) publish(ctx context.Context, events []outgoing, door int) {
	for pause := 100 * time.Millisecond; len(events) > 0; pause = min(2*pause, 2*time.Second) {
		events = p.send(ctx, events, door)
		door++
		if len(events) == 0 {
			return
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// send makes one request and returns the events that were not accepted.
func (p *producer) send(ctx context.Context, events []outgoing, door int) (left []outgoing) {
	sent := time.Now()
	status, retryAfter, results := p.call(ctx, events, door)
	answered := time.Now()
	for i, e := range events {
		r := request{
			tenant: p.tenant, id: e.id, eventType: e.eventType, data: hash([]byte(e.data)), sent: sent, answered: answered, status: status, retryAfter: retryAfter,
		}
		if i < len(results) && results[i].ID != "" {
			r.status, r.answer = http.StatusAccepted, results[i].ID
		} else if status/100 == 2 {
			r.status = 0 // Of an array, this one was not.
		}
		if !r.accepted() {
			left = append(left, e)
		}
		p.rec.asked(r)
	}
	return left
}

type result struct{ ID string }

// call returns the status, 0 if there was no answer, and what became of each event.
func (p *producer) call(ctx context.Context, events []outgoing, door int) (status int, retryAfter string, results []result) {
	bodies := make([]map[string]any, len(events))
	for i, e := range events {
		bodies[i] = map[string]any{"type": e.eventType, "id": e.id, "data": json.RawMessage(e.data)}
	}
	var body []byte
	if len(bodies) == 1 {
		body, _ = json.Marshal(bodies[0]) // Maps of texts can be encoded.
	} else {
		body, _ = json.Marshal(bodies)
	}
	url := "http://" + p.doors[door%len(p.doors)] + "/v1/events?tenant=" + p.tenant
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", nil
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+p.key)
	resp, err := p.http.Do(req)
	if err != nil {
		return 0, "", nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", nil // The answer was cut off.
	}
	var answer struct {
		ID     string
		Events []result
	}
	_ = json.Unmarshal(text, &answer)
	if results = answer.Events; len(events) == 1 && answer.ID != "" && resp.StatusCode/100 == 2 {
		results = []result{{answer.ID}}
	}
	return resp.StatusCode, resp.Header.Get("Retry-After"), results
}
