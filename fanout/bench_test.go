package fanout_test

import (
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// cpu starts to measure the processor time of the whole process; what it returns reports it by the event. On a machine
// that others use as well, it says more than the time that passes.
func cpu(b *testing.B) (report func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64((used()-before).Microseconds())/float64(b.N), "cpu-us/event") }
}

var accepted = time.Date(2026, 11, 20, 10, 0, 0, 123456789, time.UTC)

var kilobyte = []byte(`{"lines":[` + strings.Repeat(`{"sku":"abc-1234567","count":2,"price":17.25,"note":"to be wrapped"},`, 13) + `{"sku":"last"}]}`)

// BenchmarkStage fans events out that are in the stream already, with ten matches each: reading them from the broker
// (in this process), matching, and the ledger are in the figures; what deliver does with the tasks is not.
func BenchmarkStage(b *testing.B) {
	for name, suspect := range map[string]bool{"fresh": false, "suspect": true} {
		b.Run(name, func(b *testing.B) {
			h := fanouttest.New(b)
			for range 10 {
				h.Subscribe("acme", "order.*")
			}
			if suspect {
				fill(h, b.N)
			}
			b.ReportAllocs()
			if !suspect {
				h.Run()
				h.Reading()
			}
			b.ResetTimer()
			defer cpu(b)()
			if suspect {
				h.Run()
			} else {
				fill(h, b.N)
			}
			h.Settled()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// fill publishes events with ids that Fanfare made, as ingest does, in arrays of 100.
func fill(h *fanouttest.House, n int) {
	h.T.Helper()
	publisher, err := jetstream.NewPublisher(h.JS, jetstream.PublisherConfig{Dedupe: true})
	if err != nil {
		h.T.Fatal(err)
	}
	defer func() { _ = publisher.Close() }()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for from := w * 100; from < n; from += 800 {
				var events []*event.Event
				for range min(100, n-from) {
					events = append(events, &event.Event{
						ID: uuid.Must(uuid.NewV7()).String(), Tenant: "acme", Type: "order.created", Time: accepted, Data: kilobyte, Made: true, Checked: true,
					})
				}
				for _, sent := range fanout.SendAll(h.T.Context(), publisher, events) {
					if sent.Err != nil {
						h.T.Error(sent.Err)
					}
				}
			}
		})
	}
	wg.Wait()
}
