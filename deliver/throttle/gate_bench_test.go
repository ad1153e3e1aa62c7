package throttle_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver/throttle"
)

// What a delivery pays for entering and leaving, where nothing waits.
func BenchmarkEnterRelease(b *testing.B) {
	metrics, err := throttle.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	g := throttle.New(throttle.Config{InFlight: 1024, BreakerAfter: 10, Patience: time.Minute}, throttle.Deps{
		Metrics: metrics, Logger: slog.New(slog.DiscardHandler), Now: time.Now, Go: func(f func()) { go f() },
	})
	subs := many(100, "a", "https://a.test/hook")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		ticket, err := g.Enter(b.Context(), throttle.Request{Subscription: subs[i%len(subs)], Delivery: uuid.UUID{1}})
		if err != nil {
			b.Fatal(err)
		}
		ticket.Release(b.Context(), fine)
	}
}
