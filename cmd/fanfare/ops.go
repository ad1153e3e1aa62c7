package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ops is what a machine asks of a process: /healthz, /readyz and /metrics, without a key.
type ops struct {
	role     string
	checks   []check
	durable  func(context.Context) (synced bool, detail string, err error)
	metrics  *prometheus.Registry
	pprof    bool
	stopping atomic.Bool // set when the process has been asked to stop: it is no longer ready

	mu     sync.Mutex // held while the dependencies are asked
	last   readiness
	lastAt time.Time
}

// check asks one dependency whether it is there.
type check struct {
	name string
	ask  func(context.Context) error
}

const (
	// checkTimeout bounds one answer of /readyz.
	checkTimeout = 3 * time.Second
	// answerFor is how long an answer of /readyz is given again: it takes no key, and each asks NATS and Postgres.
	answerFor = time.Second
)

// readiness is the answer of /readyz.
type readiness struct {
	Status       string            `json:"status"` // ready, not ready, stopping
	Role         string            `json:"role"`
	Dependencies map[string]string `json:"dependencies"` // "ok", or what is wrong
	// Durability is synced if what was accepted is on disk, degraded if a power cut may lose it, unknown while
	// NATS cannot be asked. A degraded process is ready.
	Durability string `json:"durability"`
	Detail     string `json:"durability_detail,omitempty"`
}

func (o *ops) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", o.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.metrics, promhttp.HandlerOpts{}))
	if o.pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// ready answers /readyz.
func (o *ops) ready(w http.ResponseWriter, r *http.Request) {
	answer := o.readiness(r.Context())
	if o.stopping.Load() {
		answer.Status = "stopping"
	}
	w.Header().Set("Content-Type", "application/json")
	if answer.Status != "ready" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// readiness asks every dependency, unless they were asked just now.
func (o *ops) readiness(ctx context.Context) readiness {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.lastAt) < answerFor {
		return o.last
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	answer := readiness{Status: "ready", Role: o.role, Dependencies: map[string]string{}, Durability: "degraded"}
	errs := make([]error, len(o.checks))
	var asked sync.WaitGroup
	for i, c := range o.checks {
		asked.Go(func() { errs[i] = c.ask(ctx) })
	}
	synced, detail, err := o.durable(ctx)
	asked.Wait()
	for i, c := range o.checks {
		answer.Dependencies[c.name] = "ok"
		if errs[i] != nil {
			answer.Dependencies[c.name], answer.Status = errs[i].Error(), "not ready"
		}
	}
	answer.Detail = detail
	switch {
	case err != nil:
		answer.Durability, answer.Detail = "unknown", err.Error()
	case synced:
		answer.Durability = "synced"
	}
	o.last, o.lastAt = answer, time.Now()
	return answer
}
