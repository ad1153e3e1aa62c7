package ingest

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/internal/telemetry"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Ingest takes events in.
type Ingest struct {
	cfg     Config
	rules   *fanout.Rules
	dir     *subscriptions.Directory
	to      *jetstream.Publisher
	stored  *fanout.Reader
	keys    *keys
	door    *door
	bulk    *bulk
	metrics *metrics
	quotas  *quota.Quotas
	tracer  *telemetry.Tracer
	log     *slog.Logger
	now     func() time.Time

	complained atomic.Int64 // when storage was last complained of, Unix seconds
}

// Deps are what Ingest works with.
type Deps struct {
	DB        *sql.DB
	Publisher *jetstream.Publisher // with Dedupe
	Directory *subscriptions.Directory
	Rules     *fanout.Rules
	Ledger    *fanout.Ledger
	Reader    *fanout.Reader
	Quotas    *quota.Quotas // nil bounds nothing
	BulkRate  int64         // bytes a second of large bodies over all tenants; 0 bounds nothing
	Tracer    *telemetry.Tracer
	Logger    *slog.Logger
	Metrics   prometheus.Registerer
	Now       func() time.Time // nil means time.Now
}

// New makes an Ingest.
func New(cfg Config, deps Deps) (*Ingest, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &Ingest{
		cfg: cfg, tracer: deps.Tracer, rules: deps.Rules, dir: deps.Directory, to: deps.Publisher, stored: deps.Reader,
		keys: newKeys(deps.DB, deps.Ledger, deps.Now), door: newDoor(cfg), bulk: newBulk(deps.BulkRate), metrics: newMetrics(deps.Metrics),
		quotas: deps.Quotas, log: deps.Logger, now: deps.Now,
	}, nil
}

// Run removes idempotency keys that are too old to matter, until the context ends. One process is enough;
// several do not disturb each other.
func (in *Ingest) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		if _, err := in.keys.sweep(ctx); err != nil && ctx.Err() == nil {
			in.log.WarnContext(ctx, "old idempotency keys stay for now", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Result is what became of one published event.
type Result struct {
	ID        string
	Duplicate bool // the same event was accepted before
	Seq       uint64
	// Err is nil once the event is on disk; else it is an *api.Problem, or an *api.LimitError.
	Err error
}

// Publish takes events in that were not read from a request of the native API: those of dialects and of tests.
// The tenant is the caller's business; an empty id is made. The results are in the order of the events.
func (in *Ingest) Publish(ctx context.Context, events ...event.Event) []Result {
	ctx, cancel := context.WithTimeout(ctx, in.cfg.Timeout)
	defer cancel()
	items := make([]*item, len(events))
	for i, e := range events {
		items[i] = &item{event: e, at: "body", unread: true}
	}
	in.accept(ctx, items)
	in.metrics.count(items)
	results := make([]Result, len(items))
	for i, it := range items {
		results[i] = Result{ID: it.event.ID, Duplicate: it.duplicate, Seq: it.event.Seq}
		if it.problem != nil {
			results[i].Err = it.problem
		}
		if it.limited != nil {
			results[i].Err = it.limited
		}
	}
	return results
}

// complain logs that storage fails, once in a second at most: every request says so by itself.
func (in *Ingest) complain(err error) {
	now := in.now().Unix()
	if last := in.complained.Load(); now != last && in.complained.CompareAndSwap(last, now) {
		in.log.Warn("events cannot be stored", "error", err)
	}
}

var _ http.Handler = (*Ingest)(nil)
