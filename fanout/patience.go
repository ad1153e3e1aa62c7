package fanout

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/retry"
)

// workKey is the key of the context of work, which the context of handlers carries. After the end of theirs, handlers wait for
// nothing that is away; what they have begun may go on until Config.DrainTimeout is over.
type workKey struct{}

// working returns the context of work of a handler.
func working(ctx context.Context) context.Context {
	if work, ok := ctx.Value(workKey{}).(context.Context); ok {
		return work
	}
	return ctx
}

// pauses are those between tries while Postgres or the broker is away.
var pauses = retry.Pauses{First: 20 * time.Millisecond, Most: 2 * time.Second}

// persist does something until it succeeds. As long as Postgres or the broker is away the event waits, and its
// message stays in progress; any other error hands the message back.
func (s *Stage) persist(ctx context.Context, do func(context.Context) error) error {
	waiting := false
	defer func() {
		if waiting {
			s.metrics.waiting.Dec()
			s.outage.end(s.log)
		}
	}()
	work := working(ctx)
	return retry.Until(ctx, pauses, func() error { return do(work) }, func(err error) bool {
		if away(err) && !waiting {
			waiting = true
			s.metrics.waiting.Inc()
			s.outage.begin(s.log, err)
		}
		return away(err)
	})
}

// away reports whether an error says that a dependency cannot be used now.
func away(err error) bool {
	return postgres.IsUnavailable(err) || errors.Is(err, jetstream.ErrUnavailable) || errors.Is(err, jetstream.ErrFull)
}

// outage tells of a dependency that is away once, however many events wait for it.
type outage struct{ waiting atomic.Int64 }

func (o *outage) begin(log *slog.Logger, err error) {
	if o.waiting.Add(1) == 1 {
		log.Warn("events wait", "error", err)
	}
}

func (o *outage) end(log *slog.Logger) {
	if o.waiting.Add(-1) == 0 {
		log.Info("no events wait any more")
	}
}
