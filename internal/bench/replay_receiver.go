package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fanfarehq/fanfare/internal/api"
)

// replayReceiver times live events, and counts how often each event of the past arrives.
type replayReceiver struct {
	url   string
	past  []atomic.Int32 // by number of the event
	again atomic.Int64   // how many of them arrived, each counted once

	mu   sync.Mutex
	live []time.Duration // since begin
}

func newReplayReceiver(events int) *replayReceiver {
	return &replayReceiver{past: make([]atomic.Int32, events)}
}

// listen starts it.
func (r *replayReceiver) listen(ctx context.Context, group *errgroup.Group) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	r.url = "http://" + l.Addr().String()
	group.Go(func() error { return api.Serve(ctx, l, api.NewServer(http.HandlerFunc(r.receive), nil), stopTimeout) })
	return nil
}

func (r *replayReceiver) receive(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	body, err := io.ReadAll(io.LimitReader(req.Body, 64<<10))
	n, sent, ok := readBenchEvent(body)
	switch {
	case err != nil || !ok:
		w.WriteHeader(http.StatusBadRequest)
		return
	case req.URL.Path == "/live":
		r.mu.Lock()
		r.live = append(r.live, now.Sub(sent))
		r.mu.Unlock()
	case n < len(r.past) && r.past[n].Add(1) == 1:
		r.again.Add(1)
	}
	w.WriteHeader(http.StatusNoContent)
}

// begin drops the times so far.
func (r *replayReceiver) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live = nil
}

func (r *replayReceiver) timed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.live)
}

func (r *replayReceiver) times() []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.live)
}

// counts returns how many events of the past arrived, and how many requests came beyond the first of each.
func (r *replayReceiver) counts() (arrived, repeated int) {
	for i := range r.past {
		if n := int(r.past[i].Load()); n > 0 {
			arrived++
			repeated += n - 1
		}
	}
	return arrived, repeated
}
