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

	"github.com/fanfarehq/fanfare/internal/survive"
)

// ops is what a machine asks of a process: /healthz, /readyz and /metrics, without a key.
type ops struct {
	role     string
	starting *waits
	metrics  *prometheus.Registry
	pprof    bool
	stopping atomic.Bool // set when the process has been asked to stop: it is no longer ready

	mu     sync.Mutex // held while the dependencies are asked
	asks   *asks      // nil until the process is up
	last   readiness
	lastAt time.Time
}

// asks are what /readyz asks of a process that is up.
type asks struct {
	checks  []check
	durable func(context.Context) (synced bool, detail string, err error)
	// lost says what one of NATS and Postgres lost that the other one still knows of; empty if nothing.
	lost func(context.Context) string
}

// up says that the start is over.
func (o *ops) up(a asks) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asks = &a
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
	Status       string            `json:"status"` // starting, ready, not ready, stopping
	Role         string            `json:"role"`
	Dependencies map[string]string `json:"dependencies"` // "ok", or the fault
	// Durability is synced if accepted events are on disk, degraded if a power cut may lose it, unknown while
	// NATS cannot be asked. A degraded process is ready.
	Durability string `json:"durability"`
	Detail     string `json:"durability_detail,omitempty"`
	// Lost is what NATS does not have any more although the ledger knows of it. The process is ready: it works on what there is.
	Lost string `json:"lost,omitempty"`
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
	answer := readiness{Status: "stopping", Role: o.role, Dependencies: map[string]string{}, Durability: "unknown"}
	if !o.stopping.Load() {
		answer = o.readiness(r.Context())
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
	if o.asks == nil {
		return readiness{Status: "starting", Role: o.role, Dependencies: o.starting.all(), Durability: "unknown"}
	}
	if time.Since(o.lastAt) < answerFor {
		return o.last
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	answer := readiness{Status: "ready", Role: o.role, Dependencies: map[string]string{}, Durability: "degraded"}
	errs := make([]error, len(o.asks.checks))
	var asked sync.WaitGroup
	for i, c := range o.asks.checks {
		asked.Go(func() { errs[i] = survive.Do(func() error { return c.ask(ctx) }) })
	}
	synced, detail, err := o.asks.durable(ctx)
	answer.Lost = o.asks.lost(ctx)
	asked.Wait()
	for i, c := range o.asks.checks {
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
