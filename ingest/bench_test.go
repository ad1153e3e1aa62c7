package ingest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
)

// kilobyte is an event of about 1 KiB.
func kilobyte(i int, id string) string {
	return fmt.Sprintf(`{"type":"order.created",%s"resource_ids":["%d"],"data":{"order":"o_%d","total":12.5,"lines":[%s{"sku":"last"}]}}`,
		id, i, i, strings.Repeat(`{"sku":"abc-1234567","count":2,"price":17.25,"note":"to be wrapped"},`, 13))
}

func array(n int, id func(i int) string) string {
	events := make([]string, n)
	for i := range events {
		events[i] = kilobyte(i, id(i))
	}
	return "[" + strings.Join(events, ",") + "]"
}

func none(int) string { return "" }

// cpu starts to measure the processor time of the whole process; what it returns reports it by the event. On a machine
// that others use as well, it says more than the time that passes.
func cpu(b *testing.B, events int) (report func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() {
		b.ReportMetric(float64((used()-before).Microseconds())/float64(b.N*events), "cpu-us/event")
	}
}

// BenchmarkHandler takes arrays of 100 events all the way to the disk, from eight callers at once.
func BenchmarkHandler(b *testing.B) {
	for name, id := range map[string]bool{"made": false, "given": true} {
		b.Run(name, func(b *testing.B) {
			h := newHouse(b)
			body := array(100, none)
			b.SetBytes(int64(len(body)))
			b.SetParallelism(4)
			b.ReportAllocs()
			defer cpu(b, 100)()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					send := body
					if id {
						send = array(100, func(int) string { return `"id":"` + strings.ReplaceAll(newID(), "-", "_") + `",` })
					}
					req := httptest.NewRequest(http.MethodPost, "/v1/events", strings.NewReader(send))
					req.Header.Set("Authorization", "Bearer acme")
					w := httptest.NewRecorder()
					h.api.Adapter().ServeHTTP(w, req)
					if w.Code != http.StatusAccepted {
						b.Errorf("answered %d %s", w.Code, w.Body)
					}
				}
			})
			b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func newID() string { return uuid.NewString() }
