package subscriptions_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// many yields n subscriptions over tenants, with one in ten asking for more than its type.
func many(n, tenants int) func(yield func(*subscriptions.Subscription) bool) {
	return func(yield func(*subscriptions.Subscription) bool) {
		for i := range n {
			s := plain(fmt.Sprintf("tenant-%05d", i%tenants), fmt.Sprintf("type%02d.created", i/tenants%10))
			s.Name = fmt.Sprintf("Subscription number %d", i)
			s.URL = fmt.Sprintf("https://hooks%d.example.com/receive/%d", i%1000, i)
			s.Headers = map[string]string{"X-Env": "prod"}
			switch i % 10 {
			case 7:
				s.EventTypes = append(s.EventTypes, fmt.Sprintf("other%d.*", i%50))
			case 8:
				s.ResourceID = fmt.Sprint(i)
			case 9:
				s.Changed = []string{"status"}
			}
			if !yield(s) {
				return
			}
		}
	}
}

// BenchmarkDirectory measures at FANFARE_BENCH_SUBSCRIPTIONS of them, or at 20,000.
func BenchmarkDirectory(b *testing.B) {
	n := benchSize(b)
	tenants := max(1, n/100)
	s := setup(b)
	start := time.Now()
	if _, err := s.store.CreateMany(b.Context(), many(n, tenants)); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d created in %s", n, time.Since(start).Round(time.Millisecond))

	b.Run("load", func(b *testing.B) {
		defer reportCPU(b, computed())
		for b.Loop() {
			s.dir = s.directory()
			before := heap()
			s.fresh(b)
			b.ReportMetric(float64(heap()-before)/float64(n), "B/subscription")
			b.ReportMetric(float64(peak())/(1<<20), "peak-MiB")
		}
	})
	b.Run("fresh", func(b *testing.B) {
		for b.Loop() {
			s.fresh(b)
		}
	})
	b.Run("change", func(b *testing.B) {
		made := s.create(b, plain("tenant-00000", "type00.created"))
		made.MaxInFlight = 1
		for b.Loop() {
			b.StopTimer()
			made.MaxInFlight = 3 - made.MaxInFlight // 1 or 2
			if err := s.store.Update(b.Context(), made); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			s.fresh(b)
		}
	})
	for _, hits := range []struct{ name, filter string }{{"match ten", ""}, {"match ten with filters", "event.data.total > %d.0 || event.data.status == \"s%d\""}} {
		b.Run(hits.name, func(b *testing.B) { benchMatch(b, s, tenants, hits.filter) })
	}
	b.Run("get", func(b *testing.B) {
		list, err := s.store.List(b.Context(), subscriptions.Query{})
		if err != nil {
			b.Fatal(err)
		}
		ids := make([]uuid.UUID, len(list))
		for i, sub := range list {
			ids[i] = sub.ID
		}
		defer reportCPU(b, computed())
		for b.Loop() {
			s.dir.Get(ids[rand.IntN(len(ids))])
		}
	})
}

// benchMatch matches events of all tenants, each of which reaches ten subscriptions that were made for it.
func benchMatch(b *testing.B, s *bundle, tenants int, filter string) {
	b.StopTimer()
	eventType := fmt.Sprintf("bench%d.created", len(filter))
	used := min(tenants, 500)
	i := 0
	if _, err := s.store.CreateMany(b.Context(), func(yield func(*subscriptions.Subscription) bool) {
		for i = range used * 10 {
			sub := plain(fmt.Sprintf("tenant-%05d", i%used), eventType)
			sub.Headers = map[string]string{"X-Env": "prod"}
			if filter != "" {
				sub.Filter = fmt.Sprintf(filter, i, i)
			}
			if !yield(sub) {
				return
			}
		}
	}); err != nil {
		b.Fatal(err)
	}
	s.fresh(b)
	data := []byte(`{"total": 1000000, "status": "paid", "customer": {"id": 17, "country": "NL"}, "lines": [{"sku": "a", "n": 1}]}`)
	for i := range used { // Filters are compiled when they are first needed.
		s.dir.Match(&event.Event{Tenant: fmt.Sprintf("tenant-%05d", i), Type: eventType, Data: data})
	}
	b.StartTimer()
	b.ReportAllocs()
	defer reportCPU(b, computed())
	for b.Loop() {
		e := &event.Event{Tenant: fmt.Sprintf("tenant-%05d", rand.IntN(used)), Type: eventType, Data: data}
		if matched, _ := s.dir.Match(e); len(matched) != 10 {
			b.Fatalf("matched %d", len(matched))
		}
	}
}

// computed is the time that the process has computed so far. On a machine that others use as well it says more than
// the clock.
func computed() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCPU(b *testing.B, since time.Duration) {
	b.ReportMetric(float64(computed()-since)/float64(b.N)/1e3, "cpu-µs/op")
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// peak is what the process has taken of the system so far.
func peak() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Sys
}

func benchSize(b *testing.B) int {
	n := 20_000
	if text := os.Getenv("FANFARE_BENCH_SUBSCRIPTIONS"); text != "" {
		if _, err := fmt.Sscan(text, &n); err != nil {
			b.Fatal(err)
		}
	}
	return n
}
