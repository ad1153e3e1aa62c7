package fanout_test

import (
	"database/sql"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/internal/quota"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// recorded are the events of the ledger.
func recorded(h *fanouttest.House) ([]fanout.Recorded, error) {
	rows, err := h.DB.Query(`SELECT ` + fanout.RecordedColumns + ` FROM events ORDER BY uid DESC`)
	return postgres.Collect(rows, err, func(rows *sql.Rows) (fanout.Recorded, error) { return fanout.ScanRecorded(rows) })
}

// A preview of large events holds one of them at a time, not a page of them.
func TestPreviewHoldsNoPages(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	h := fanouttest.New(t)
	h.Run()
	const n, size = 100, 250 << 10
	text := strings.Repeat("x", size)
	for i := range n {
		h.Publish("events.acme.order", fmt.Sprintf(`{"n":%d,"text":%q}`, i, text), "Fanfare-Id", fmt.Sprint("e", i))
	}
	h.Settled()
	rows, err := recorded(h)
	if err != nil {
		t.Fatal(err)
	}
	sub := &subscriptions.Subscription{Tenant: "acme", EventTypes: []string{"*"}, Filter: "event.data.n < 10", Status: subscriptions.Active, Scopes: []string{subscriptions.AllScopes}}
	defer debug.SetGCPercent(debug.SetGCPercent(5))
	preview := func() (held int64) {
		runtime.GC()
		before := heap()
		stop, done := make(chan struct{}), make(chan struct{})
		var most atomic.Uint64
		go func() {
			defer close(done)
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					most.Store(max(most.Load(), heap()))
				}
			}
		}()
		sieve := fanout.Sieve{Reader: fanout.NewReader(h.JS), Directory: h.Directory}
		found, err := sieve.Matching(t.Context(), "acme", slices.Clone(rows), sub)
		close(stop)
		<-done
		if err != nil || len(found) != 10 {
			t.Errorf("got %d, %v", len(found), err)
		}
		return int64(most.Load()) - int64(before)
	}
	// What the collector leaves for later is a matter of luck: the least of a few counts.
	held := preview()
	for range 4 {
		if held > n*size/2 {
			held = min(held, preview())
		}
	}
	if held > n*size/2 {
		t.Errorf("the preview of %d MB held %d MB", n*size>>20, held>>20)
	}
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// A preview rests between its pieces, and examines all the same.
func TestPreviewRests(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Run()
	const n = 40
	text := strings.Repeat("x", 100<<10)
	for i := range n {
		h.Publish("events.acme.order", fmt.Sprintf(`{"n":%d,"text":%q}`, i, text), "Fanfare-Id", fmt.Sprint("e", i))
	}
	h.Settled()
	reader := fanout.NewReader(h.JS)
	rows, err := recorded(h)
	if err != nil {
		t.Fatal(err)
	}
	sub := &subscriptions.Subscription{Tenant: "acme", EventTypes: []string{"*"}, Filter: "event.data.n < 10", Status: subscriptions.Active, Scopes: []string{subscriptions.AllScopes}}
	began := time.Now()
	found, err := fanout.Sieve{Reader: reader, Directory: h.Directory, Rest: 100}.Matching(t.Context(), "acme", rows, sub)
	if err != nil || len(found) != 10 {
		t.Fatalf("got %d, %v", len(found), err)
	}
	if took := time.Since(began); took < 300*time.Millisecond { // 4 ms of work make a rest of 400 ms.
		t.Errorf("it took %s", took)
	}
}

// A tenant's previews at once are bounded at the route, by the name of the limit; another tenant's are its own.
func TestPreviewsOfATenantAreBounded(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	quotas, err := quota.New(quota.Config{Previews: 1}, quota.Deps{DB: h.DB})
	if err != nil {
		t.Fatal(err)
	}
	ask := serveWith(h, &fates{}, quotas)
	const body = `{"event_types":["*"]}`
	leave, err := quotas.Enter("acme", quota.Previews) // as a preview under way
	if err != nil {
		t.Fatal(err)
	}
	refused := ask("acme", "POST", "/v1/subscriptions/preview", body, 429)
	if text := fmt.Sprint(refused); !strings.Contains(text, "previews") {
		t.Errorf("got %s, which does not name the limit", text)
	}
	ask("globex", "POST", "/v1/subscriptions/preview", body, 200)
	leave()
	ask("acme", "POST", "/v1/subscriptions/preview", body, 200)
}
