package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// benchEndpoints is how many endpoints the receiver of the bench has, each on a port of its own.
const benchEndpoints = 100

// Receiver is the receiver of `fanfare bench`, a process of its own. It prints where it listens as one
// line of JSON and ends when its standard input does.
type Receiver struct{}

// receiverAddress is that line.
type receiverAddress struct {
	Control   string   `json:"control"`
	Endpoints []string `json:"endpoints"`
}

// Run receives until standard input ends or ctx does.
func (Receiver) Run(ctx context.Context, c *terminal.Terminal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	r := &benchReceiver{}
	group, ctx := errgroup.WithContext(ctx)
	var where receiverAddress
	start := func(h http.Handler) (string, error) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", fmt.Errorf("listen: %w", err)
		}
		group.Go(func() error { return api.Serve(ctx, listener, api.NewServer(h, nil), stopTimeout) })
		return "http://" + listener.Addr().String(), nil
	}
	var err error
	if where.Control, err = start(r.control()); err != nil {
		return err
	}
	for i := range benchEndpoints {
		url, err := start(http.HandlerFunc(r.receive))
		if err != nil {
			return err
		}
		where.Endpoints = append(where.Endpoints, fmt.Sprintf("%s/e/%d", url, i))
	}
	if err := json.NewEncoder(c.Out).Encode(where); err != nil {
		return err
	}
	return group.Wait()
}

// benchReceiver counts what arrives, each event once at each endpoint, and what arrives again.
type benchReceiver struct {
	received   atomic.Int64 // first arrivals
	duplicates atomic.Int64
	strange    atomic.Int64 // bodies that are not the bench's
	last       atomic.Int64 // the latest first arrival, ns since 1970
	timing     atomic.Bool
	endpoints  [benchEndpoints]seenEvents

	mu        sync.Mutex
	latencies []time.Duration
}

// seenEvents is a set of event numbers.
type seenEvents struct {
	mu   sync.Mutex
	bits []uint64
}

// add returns false if n was there.
func (s *seenEvents) add(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.bits) <= n/64 {
		s.bits = append(s.bits, make([]uint64, 1+len(s.bits))...)
	}
	if s.bits[n/64]&(1<<(n%64)) != 0 {
		return false
	}
	s.bits[n/64] |= 1 << (n % 64)
	return true
}

// receive is the endpoint: it reads all, counts and says 204.
func (r *benchReceiver) receive(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	body := make([]byte, max(req.ContentLength, 0))
	_, err := io.ReadFull(req.Body, body)
	n, sent, ok := readBenchEvent(body)
	endpoint, err2 := strconv.Atoi(req.URL.Path[len("/e/"):])
	switch {
	case err != nil || err2 != nil || !ok || endpoint < 0 || endpoint >= benchEndpoints:
		r.strange.Add(1)
	case !r.endpoints[endpoint].add(n):
		r.duplicates.Add(1)
	default:
		r.last.Store(now.UnixNano())
		r.received.Add(1)
		if r.timing.Load() {
			r.mu.Lock()
			r.latencies = append(r.latencies, now.Sub(sent))
			r.mu.Unlock()
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// receiverCounts is what the receiver has counted since the last begin.
type receiverCounts struct {
	Received   int64     `json:"received"`
	Duplicates int64     `json:"duplicates"`
	Strange    int64     `json:"strange"`
	Last       time.Time `json:"last"`
}

// control is the API by which the bench asks the receiver what came.
func (r *benchReceiver) control() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("POST /begin", func(w http.ResponseWriter, req *http.Request) {
		for i := range r.endpoints {
			r.endpoints[i].mu.Lock()
			clear(r.endpoints[i].bits)
			r.endpoints[i].mu.Unlock()
		}
		r.received.Store(0)
		r.duplicates.Store(0)
		r.strange.Store(0)
		r.timing.Store(req.URL.Query().Has("timing"))
		r.mu.Lock()
		r.latencies = nil
		r.mu.Unlock()
	})
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, receiverCounts{r.received.Load(), r.duplicates.Load(), r.strange.Load(), time.Unix(0, r.last.Load())})
	})
	mux.HandleFunc("POST /latencies", func(w http.ResponseWriter, _ *http.Request) { // Those since the last time.
		r.mu.Lock()
		latencies := r.latencies
		r.latencies = nil
		r.mu.Unlock()
		answer(w, latencies)
	})
	mux.HandleFunc("GET /latencies", func(w http.ResponseWriter, _ *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		answer(w, r.latencies)
	})
	return mux
}
