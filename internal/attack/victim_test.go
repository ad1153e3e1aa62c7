package attack_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// victim publishes at a steady rate and notes when each event arrives.
type victim struct {
	*client
	s       *scene
	windows int

	mu      sync.Mutex
	began   map[string]time.Time
	took    map[string]time.Duration
	posted  map[string]time.Duration
	refused map[string]string
}

// sample is one window of a victim.
type sample struct {
	took          []time.Duration // from the POST's beginning to the arrival, sorted
	posted        []time.Duration // from the POST's beginning to its answer, sorted
	lost, refused int
	why           string // of the last refusal
	ids           []string
}

// p returns a percentile of the times to the arrival.
func (s sample) p(percent int) time.Duration { return percentile(s.took, percent) }

// percentile is of sorted times.
func percentile(times []time.Duration, percent int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return times[(len(times)*percent+99)/100-1]
}

// newVictim subscribes at url, which is that of a receiver of the scene.
func (s *scene) newVictim(url string) *victim {
	s.Helper()
	v := &victim{
		client: s.tenant(s.named("victim")), s: s,
		began: map[string]time.Time{}, took: map[string]time.Duration{},
		posted: map[string]time.Duration{}, refused: map[string]string{},
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	s.Cleanup(transport.CloseIdleConnections)
	v.http = &http.Client{Transport: transport, Timeout: s.patience}
	v.subscribe(s, url, "order.created")
	s.at[url[:strings.LastIndex(url, "/")]].watch(v.arrive)
	v.measure(s.quiet / 2) // The first events open connections.
	return v
}

func (v *victim) arrive(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if began, mine := v.began[id]; mine && v.took[id] == 0 {
		v.took[id] = time.Since(began)
	}
}

// measure is a whole window in peace.
func (v *victim) measure(d time.Duration) sample {
	got := v.run(d)
	v.settle(&got, v.s.patience)
	return got
}

// run publishes for a time, each event at its moment whatever became of the earlier ones.
func (v *victim) run(d time.Duration) (got sample) {
	v.windows++
	tick := time.NewTicker(time.Second / time.Duration(v.s.rate))
	defer tick.Stop()
	var posts sync.WaitGroup
	for i := range int(d.Seconds() * float64(v.s.rate)) {
		<-tick.C
		id := fmt.Sprintf("w%d-%d", v.windows, i)
		got.ids = append(got.ids, id)
		posts.Go(func() { v.publish(id) })
	}
	posts.Wait()
	return got
}

func (v *victim) publish(id string) {
	began := time.Now()
	v.mu.Lock()
	v.began[id] = began
	v.mu.Unlock()
	body := object{"id": id, "type": "order.created", "data": object{"order": id, "total": 12.5}}
	status, answer := v.call(context.Background(), "POST /v1/events", body)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.posted[id] = time.Since(began)
	if status != http.StatusAccepted {
		v.refused[id] = fmt.Sprintf("%d %.200s", status, answer)
	}
}

// settle waits until the window's events have arrived, and counts.
func (v *victim) settle(got *sample, patience time.Duration) {
	_ = eventually(patience, func() bool { return v.count(got) == 0 }) // The rest is lost.
	got.lost = v.count(got)
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range got.ids {
		if took, arrived := v.took[id]; arrived {
			got.took = append(got.took, took)
		}
		got.posted = append(got.posted, v.posted[id])
		if why, refused := v.refused[id]; refused {
			got.refused++
			got.why = why
		}
	}
	slices.Sort(got.took)
	slices.Sort(got.posted)
}

// count returns how many accepted events of the window have not arrived.
func (v *victim) count(got *sample) (missing int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range got.ids {
		if _, refused := v.refused[id]; !refused && v.took[id] == 0 {
			missing++
		}
	}
	return missing
}

// trusted is the identity of the https receiver.
func (f *fanfare) trusted() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{f.identity}}
}
