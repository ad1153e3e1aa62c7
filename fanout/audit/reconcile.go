package audit

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

const (
	reconcileEvery = time.Minute
	// reconcileGrace is how old an event is before it is overdue: slower work waits in a stream
	// or as a row, where an audit sees it.
	reconcileGrace = 2 * time.Minute
	// reconcileBack is how far the first round of an installation looks back, and how many hours of events a round takes at most. A
	// database that was restored is older: rounds then go forward from its time until they have caught up.
	reconcileBack = 6 * time.Hour
)

// Reconciler audits each accepted event once, and sends missing deliveries unasked. Any number may run;
// one at a time works.
type Reconciler struct {
	auditor *Auditor
	log     *slog.Logger
	gaps    prometheus.Gauge
	mended  *prometheus.CounterVec
	lost    *prometheus.CounterVec
	now     func() time.Time
}

// NewReconciler makes a Reconciler of an Auditor with an outbox.
func NewReconciler(auditor *Auditor, metrics prometheus.Registerer) *Reconciler {
	r := &Reconciler{
		auditor: auditor, log: auditor.Logger, now: time.Now,
		gaps: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fanfare_audit_gaps", Help: "Gaps between stream, ledger and deliveries that the last audit found and could not mend."}),
		mended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanfare_audit_mended_total", Help: "Gaps that were found unasked and made good, by kind."}, []string{"kind"}),
	}
	r.lost = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fanfare_audit_lost_total", Help: "Gaps whose events' bytes are gone, so that nothing could be sent again, by kind."}, []string{"kind"})
	for _, kind := range []history.Kind{
		gapNoRow, gapNoBytes, gapMissing, gapNeedless, history.KindDuplicate, history.KindExtraAttempt, history.KindMissingAttempt, history.KindAstray,
	} {
		r.mended.WithLabelValues(string(kind))
	}
	for _, kind := range []history.Kind{gapNoBytes, gapMissing} {
		r.lost.WithLabelValues(string(kind))
	}
	metrics.MustRegister(r.gaps, r.mended, r.lost)
	return r
}

// Run reconciles until ctx ends. While Postgres or the broker is away nothing can be told, and it waits.
func (r *Reconciler) Run(ctx context.Context) error {
	return postgres.RunChore(ctx, r.auditor.DB, r.log, postgres.Chore{Name: "reconcile", Every: reconcileEvery, Do: r.round})
}

// round looks at events that became overdue since the last one, and again at those it could not mend.
func (r *Reconciler) round(ctx context.Context, place time.Time) (time.Time, error) {
	span := ledger.Span{Since: place, Until: r.now().Add(-reconcileGrace)}
	switch {
	case place.IsZero():
		span.Since = span.Until.Add(-reconcileBack)
	case span.Until.Sub(place) > reconcileBack:
		span.Until = place.Add(reconcileBack)
	}
	if !span.Since.Before(span.Until) {
		return place, nil
	}
	err := r.auditor.store.alone(ctx, func(*sql.Tx) error {
		found, err := r.auditor.Audit(ctx, span)
		if err != nil {
			return err
		}
		left, err := r.mend(ctx, found)
		r.gaps.Set(float64(left))
		return err
	})
	if err != nil {
		return place, fmt.Errorf("reconcile: %w", err)
	}
	return span.Until, nil
}

// mend repairs the gaps of an audit, reports each, and returns how many it could not repair. The caller is alone with it: of
// two processes that found the same gap, each would send.
func (r *Reconciler) mend(ctx context.Context, found *Audit) (left int, err error) {
	left, err = r.auditor.Mend(ctx, found)
	for _, g := range found.Gaps {
		if g.lost {
			r.lost.WithLabelValues(string(g.Kind)).Inc()
			r.log.ErrorContext(ctx, "event lost: its bytes are gone", "kind", g.Kind, "event", g.EventID, "subscription", g.SubscriptionID)
			continue
		}
		r.log.WarnContext(ctx, "gap repaired", "kind", g.Kind, "event", g.EventID, "subscription", g.SubscriptionID, "mendable", g.mend != nil)
		if g.mend != nil {
			r.mended.WithLabelValues(string(g.Kind)).Inc()
		}
	}
	return left, err
}
