package bench

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/replay"
	"github.com/fanfarehq/fanfare/internal/access"
	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/changes"
	"github.com/fanfarehq/fanfare/internal/seal"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// asAdmin lets everybody be the admin of this API, which nobody else can reach.
type asAdmin struct{}

func (asAdmin) Authenticate(context.Context, string) (api.Caller, error) {
	return api.Caller{Admin: true}, nil
}

// serve makes an API with the routes that read the ledger. There is no broker.
func (b *ledgerBench) serve() (http.Handler, error) {
	mux := http.NewServeMux()
	events, err := deliver.NewEvents(deliver.EventsConfig{}, b.db)
	if err != nil {
		return nil, err
	}
	ring := "bench:" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	opened, err := seal.ParseRing(ring)
	if err != nil {
		return nil, err
	}
	peppers, err := access.ParsePeppers(ring)
	if err != nil {
		return nil, err
	}
	tenants, err := access.New(access.DefaultConfig(), access.Deps{DB: b.db, Peppers: peppers})
	if err != nil {
		return nil, err
	}
	directory := subscriptions.NewDirectory(b.db, opened, slog.New(slog.DiscardHandler))
	log := changes.NewLog(b.db)
	routes := api.New(mux, api.Config{Title: "bench", Version: "1"}, asAdmin{})
	deliveries := history.RoutesDeps{
		DB: b.db, Events: events, Past: subscriptions.Past{Changes: log, Directory: directory}, Requests: webhook.NewRequests(webhook.Formats()),
	}
	history.Routes(routes, deliveries)
	fanout.Routes{
		Ledger: fanout.NewLedger(b.db), Bytes: events, Deliveries: history.NewCounts(deliveries), Directory: directory, Changes: log,
	}.Register(routes)
	replay.Routes{DB: b.db, Directory: directory}.Register(routes)
	changes.Routes(routes, log, nil)
	tenants.Routes(routes)
	history.RegisterOverview(routes, history.OverviewDeps{
		DB: b.db, Broker: func(context.Context) (history.BrokerState, error) { return history.BrokerState{}, nil },
		Durability: func(context.Context) string { return "unknown" }, DiskFree: func() (uint64, bool) { return 0, false },
	})
	return mux, nil
}

// samples are what the lists ask for by name.
type samples struct {
	small, large, broken string // a subscription of a small tenant, and two of the large one
	event, delivery      string // of the large tenant; the event's data is gone, so that it is explained from the ledger alone
	kind                 string // a type of the second tenant
}

func (b *ledgerBench) samples(ctx context.Context) (s samples, err error) {
	err = b.db.QueryRowContext(ctx, `
WITH one AS (UPDATE events SET erased_at = now() WHERE uid = (SELECT uid FROM events WHERE tenant = 't0' ORDER BY uid OFFSET 10 LIMIT 1) RETURNING uid, id)
SELECT md5('s1.3')::uuid::text, md5('s0.3')::uuid::text, md5('s0.7')::uuid::text, id,
    (SELECT id FROM deliveries WHERE tenant = 't0' ORDER BY id OFFSET 100 LIMIT 1), (SELECT event_type FROM deliveries WHERE tenant = 't1' LIMIT 1) FROM one`).
		Scan(&s.small, &s.large, &s.broken, &s.event, &s.delivery, &s.kind)
	return s, err
}

// lists reads each list through the API, with every filter.
func (b *ledgerBench) lists(ctx context.Context) error {
	server, err := b.serve()
	if err != nil {
		return err
	}
	s, err := b.samples(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(b.console.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "p50 ms\tp99 ms\t  list\t")
	var slow []string
	for _, path := range b.paths(s) {
		took := make([]time.Duration, b.cmd.Calls)
		for i := range took {
			req := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
			req.Header.Set("X-API-Key", "k")
			answer := &discard{header: http.Header{}}
			begun := time.Now()
			server.ServeHTTP(answer, req)
			took[i] = time.Since(begun)
			if answer.status != 0 && answer.status != http.StatusOK {
				return fmt.Errorf("GET %s: %d", path, answer.status)
			}
		}
		slices.Sort(took)
		at := func(share float64) time.Duration { return took[min(int(share*float64(len(took))), len(took)-1)] }
		if p99 := at(0.99); b.cmd.Most > 0 && p99 > b.cmd.Most {
			slow = append(slow, path)
		}
		fmt.Fprintf(w, "%.2f\t%.2f\t  %s\t\n", float64(at(0.5).Microseconds())/1000, float64(at(0.99).Microseconds())/1000, path)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return b.slower(slow)
}

// slower is an error that names the lists which were slower than they may be.
func (b *ledgerBench) slower(lists []string) error {
	if len(lists) == 0 {
		return nil
	}
	return fmt.Errorf("the p99 of these is longer than %s: %s", b.cmd.Most, strings.Join(lists, " "))
}

// paths are the lists and their filters.
func (b *ledgerBench) paths(s samples) []string {
	middle := b.today.AddDate(0, 0, -b.cmd.Days/2).Format(time.RFC3339)
	days := func(n int) string { return b.today.AddDate(0, 0, -n).Format(time.RFC3339) }
	return []string{
		"/v1/deliveries?tenant=t0", "/v1/deliveries?tenant=t1", "/v1/deliveries",
		"/v1/deliveries?tenant=t0&state=delivered", "/v1/deliveries?tenant=t0&state=dead", "/v1/deliveries?tenant=t1&state=dead",
		"/v1/deliveries?tenant=t0&state=pending", "/v1/deliveries?tenant=t1&state=pending", "/v1/deliveries?tenant=t0&state=cancelled", "/v1/deliveries?state=dead", "/v1/deliveries?state=cancelled",
		"/v1/deliveries?tenant=t0&type=type_10", "/v1/deliveries?tenant=t0&type=nobody", "/v1/deliveries?tenant=t1&type=" + s.kind, "/v1/deliveries?tenant=t1&type=nobody",
		"/v1/deliveries?tenant=t0&event=" + s.event, "/v1/deliveries?tenant=t0&since=" + middle, "/v1/deliveries?tenant=t1&until=" + middle,
		"/v1/deliveries?tenant=t0&subscription=" + s.large, "/v1/deliveries?tenant=t1&subscription=" + s.small,
		"/v1/deliveries?tenant=t0&state=dead&subscription=" + s.large, "/v1/deliveries?tenant=t0&state=cancelled&subscription=" + s.large,
		"/v1/deliveries?tenant=t0&state=delivered&subscription=" + s.broken, "/v1/deliveries?tenant=t0&state=cancelled&subscription=" + s.broken,
		"/v1/deliveries?tenant=t0&type=nobody&subscription=" + s.large,
		"/v1/deliveries?type=nobody", "/v1/deliveries?tenant=t0&type=nobody&order=asc", "/v1/deliveries?tenant=t0&type=nobody&state=pending",
		"/v1/deliveries?tenant=t0&type=nobody&state=delivered", "/v1/deliveries?tenant=t0&type=nobody&since=" + middle,
		"/v1/deliveries?tenant=t0&state=dead&type=type_10", "/v1/deliveries?tenant=t0&type=type_10&since=" + middle,
		"/v1/deliveries?tenant=t0&state=dead&since=" + middle, "/v1/deliveries?tenant=t0&state=pending&until=" + middle,
		"/v1/deliveries?tenant=t0&event=" + s.event + "&state=dead", "/v1/deliveries?tenant=t0&event=" + s.event + "&subscription=" + s.large,
		"/v1/deliveries?tenant=t0&subscription=" + s.large + "&since=" + middle, "/v1/deliveries?tenant=t0&order=asc",
		"/v1/subscriptions/" + s.large + "/deliveries?tenant=t0", "/v1/subscriptions/" + s.small + "/deliveries?tenant=t1",
		"/v1/subscriptions/" + s.large + "/deliveries?tenant=t0&state=dead", "/v1/subscriptions/" + s.large + "/deliveries?tenant=t0&type=type_10",
		"/v1/subscriptions/" + s.large + "/deliveries?tenant=t0&type=nobody", "/v1/subscriptions/" + s.large + "/deliveries?tenant=t0&type=nobody&state=dead",
		"/v1/dead-letters?tenant=t0", "/v1/dead-letters?tenant=t1", "/v1/dead-letters?tenant=t0&subscription=" + s.large,
		"/v1/dead-letters?tenant=t0&type=type_10", "/v1/dead-letters?tenant=t0&type=nobody", "/v1/dead-letters?tenant=t0&event=" + s.event, "/v1/dead-letters?tenant=t0&since=" + middle,
		"/v1/deliveries?tenant=t0&reason=http_5xx", "/v1/deliveries?tenant=t0&reason=tls", "/v1/deliveries?reason=tls",
		"/v1/deliveries?tenant=t0&http_status=5xx", "/v1/deliveries?tenant=t0&http_status=404&state=dead",
		"/v1/deliveries?tenant=t0&object_id=few", "/v1/deliveries?tenant=t0&object_id=many", "/v1/deliveries?tenant=t0&resource_id=nobody",
		"/v1/deliveries?tenant=t0&object_id=many&reason=tls", "/v1/dead-letters?tenant=t0&reason=tls", "/v1/dead-letters?tenant=t0&resolved=true",
		"/v1/dead-letters", "/v1/failures", "/v1/failures?tenant=t0", "/v1/failures?tenant=t1", "/v1/failures?by=subscription&since=" + middle,
		"/v1/events?tenant=t0&object_id=few", "/v1/events?tenant=t0&object_id=many", "/v1/events?tenant=t0&object_id=many&type=nobody",
		"/v1/events?tenant=t0", "/v1/events?tenant=t1", "/v1/events", "/v1/events?tenant=t0&type=type_10", "/v1/events?tenant=t0&type=nobody",
		"/v1/events?tenant=t1&type=nobody", "/v1/events?tenant=t0&since=" + middle, "/v1/events?tenant=t1&until=" + middle,
		"/v1/events/" + s.event, "/v1/events/" + s.event + "?tenant=t0", "/v1/events/" + s.event + "/explain?tenant=t0",
		"/v1/events/" + s.event + "/explain?tenant=t0&subscription=" + s.large, "/v1/deliveries/" + s.delivery, "/v1/subscriptions/" + s.large + "/stats",
		"/v1/failures?since=" + middle, "/v1/failures?by=host", "/v1/failures?tenant=t0&by=subscription",
		"/v1/metrics/deliveries", "/v1/metrics/deliveries?subscription=" + s.large + "&step=1h", "/v1/metrics/deliveries?by=subscription", "/v1/metrics/deliveries?by=type",
		"/v1/metrics/deliveries?step=1h", "/v1/metrics/deliveries?step=1h&by=reason", "/v1/metrics/deliveries?step=1h&by=subscription",
		"/v1/metrics/deliveries?step=1d", "/v1/metrics/deliveries?step=1d&by=status_class",
		"/v1/metrics/deliveries?step=1h&since=" + days(60),
		"/v1/metrics/deliveries?tenant=t0", "/v1/metrics/deliveries?tenant=t0&step=1h&by=type", "/v1/metrics/deliveries?tenant=t0&step=1d&by=subscription",
		"/v1/metrics/deliveries?tenant=t0&step=1d&by=type&subscription=" + s.large, "/v1/metrics/deliveries?tenant=t1&step=1d&by=subscription",
		"/v1/overview", "/v1/overview?tenant=t0", "/v1/overview?tenant=t1", "/v1/processes",
		"/v1/changes", "/v1/changes?tenant=t0", "/v1/changes?tenant=t1", "/v1/changes?actor=key1", "/v1/changes?actor=nobody", "/v1/changes?tenant=t0&actor=nobody",
		"/v1/changes?resource=key", "/v1/changes?tenant=t0&resource=tenant", "/v1/changes?tenant=t0&resource=subscription&id=" + s.large,
		"/v1/changes?tenant=t0&until=" + middle, "/v1/changes?order=asc&since=" + middle, "/v1/subscriptions/" + s.large + "/changes?tenant=t0",
		"/v1/subscriptions/" + s.large + "/changes?tenant=t0&actor=nobody",
		"/v1/tenants", "/v1/tenants?q=tenant", "/v1/tenants?q=nobody", "/v1/tenants?limit=500", "/v1/tenants/t0",
		"/v1/replays", "/v1/replays?tenant=t0", "/v1/replays?tenant=t0&state=cancelled", "/v1/replays?tenant=t0&state=paused", "/v1/replays?state=paused",
		"/v1/replays?tenant=t0&subscription=" + s.large, "/v1/jobs", "/v1/jobs?tenant=t0", "/v1/quarantine", "/v1/quarantine?tenant=t1",
	}
}

// discard is an answer that nobody reads.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return io.Discard.Write(b) }
