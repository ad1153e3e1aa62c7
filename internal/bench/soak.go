package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// Soak holds the whole pipeline at a fixed rate, on a small budget of bytes for events, and shows over time whether rate,
// latency, memory, disk and WAL stay flat. Some events go to an endpoint that refuses connections, so that deliveries wait.
type Soak struct {
	JSON        bool    `name:"json" help:"Print JSON instead of a table."`
	Minutes     float64 `default:"30" help:"For how long events are published."`
	Rate        int     `default:"5000" help:"Events a second; each goes to one subscription."`
	EventsBytes int64   `name:"events-bytes" default:"2147483648" help:"FANFARE_EVENTS_MAX_BYTES of the pipeline."`
	Failing     int     `default:"1" help:"Percent of the events that go to an endpoint which refuses connections."`
}

const (
	soakInFlight = 64 // requests at once
	soakFailing  = "bench.failing"
	soakSamples  = 30 // of a run, and no more than one a second
)

// Run starts receiver and pipeline, publishes, measures and stops them.
func (cmd Soak) Run(ctx context.Context, c *terminal.Terminal, v Version) (err error) {
	if cmd.Minutes <= 0 || cmd.Rate < benchArray || cmd.EventsBytes < 1<<20 || cmd.Failing < 0 || cmd.Failing > 50 {
		return fmt.Errorf("--minutes must be more than 0, --rate %d or more, --events-bytes 1048576 or more, --failing 0 to 50", benchArray)
	}
	x := &soak{cmd: cmd, console: c, report: soakReport{
		Machine: newBenchMachine(Throughput{Rounds: 1, Seconds: cmd.Minutes * 60}, v), Rate: cmd.Rate, EventsBytes: cmd.EventsBytes, Failing: cmd.Failing,
	}}
	defer func() { err = errors.Join(err, x.stop()) }()
	if err := x.start(ctx); err != nil {
		return err
	}
	if err := x.measure(ctx); err != nil {
		return err
	}
	if err := x.report.write(c.Out, cmd.JSON); err != nil {
		return err
	}
	return x.report.verdict()
}

// soak is one run.
type soak struct {
	cmd      Soak
	console  *terminal.Terminal
	report   soakReport
	dir      string
	receiver *child
	pipeline *pipelineChild
	load     benchLoad
	db       *sql.DB

	accepted, failing, refused atomic.Int64 // events
	lastRefusal                atomic.Pointer[error]
}

func (x *soak) start(ctx context.Context) (err error) {
	if x.dir, err = tempDir(); err != nil {
		return err
	}
	if x.receiver, err = startChild(ctx, nil, "bench-receiver"); err != nil {
		return err
	}
	var where receiverAddress
	err = x.receiver.readLine(&where)
	x.receiver.watch()
	if err != nil {
		return err
	}
	fmt.Fprintf(x.console.Err, "Starting the pipeline in %s ...\n", x.dir)
	x.pipeline, err = startPipeline(ctx, x.dir, "FANFARE_ADMIN_KEY="+benchKey, fmt.Sprintf("FANFARE_EVENTS_MAX_BYTES=%d", x.cmd.EventsBytes))
	if err != nil {
		return err
	}
	x.load = benchLoad{api: client.New(x.pipeline.at.API, benchKey), receiver: client.New(where.Control, "")}
	if x.db, err = sql.Open("postgres", x.pipeline.at.Postgres); err != nil {
		return fmt.Errorf("open the ledger: %w", err)
	}
	for i, url := range where.Endpoints {
		if err := x.subscribe(ctx, benchType(1, i), url); err != nil {
			return err
		}
	}
	return x.subscribe(ctx, soakFailing, "http://127.0.0.1:1/") // Nothing listens there.
}

func (x *soak) subscribe(ctx context.Context, eventType, url string) error {
	return x.load.api.Do(ctx, "POST /v1/subscriptions?tenant="+benchTenant, map[string]any{
		"name": eventType, "url": url, "event_types": []string{eventType},
	}, nil)
}

// stop ends the processes, last first, and removes their files.
func (x *soak) stop() error {
	var errs []error
	for _, c := range []*client.Client{x.load.api, x.load.receiver} {
		if c != nil {
			c.Close()
		}
	}
	if x.db != nil {
		_ = x.db.Close() // Its server goes as well.
	}
	if x.pipeline != nil {
		errs = append(errs, x.pipeline.stop())
	}
	if x.receiver != nil {
		errs = append(errs, x.receiver.stop())
	}
	if x.dir != "" {
		errs = append(errs, os.RemoveAll(x.dir))
	}
	return errors.Join(errs...)
}

// measure publishes for the whole time and takes samples beside it; then all must arrive.
func (x *soak) measure(ctx context.Context) error {
	if err := x.load.receiver.Do(ctx, "POST /begin?timing", nil, nil); err != nil {
		return err
	}
	total := length(x.cmd.Minutes * 60)
	publishing, cancel := context.WithTimeout(ctx, total)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { x.publish(publishing); return nil })
	group.Go(func() error { return x.sample(ctx, publishing, max(total/soakSamples, time.Second)) })
	if err := group.Wait(); err != nil {
		return err
	}
	if _, err := x.load.drain(context.WithoutCancel(ctx), x.accepted.Load()); err != nil {
		return err
	}
	return x.end(context.WithoutCancel(ctx))
}

// publish sends arrays of events at the rate, however long each takes, until ctx ends; while too many requests are
// under way, it waits. What is refused is counted and not sent again.
func (x *soak) publish(ctx context.Context) {
	room := make(chan *benchBatch, soakInFlight)
	for range soakInFlight {
		room <- newBenchBatch(1)
	}
	every := time.Duration(float64(time.Second) * benchArray / float64(x.cmd.Rate))
	failing := newSoakFailing()
	first, numbers := time.Now(), 0
	for n := 0; pause(ctx, time.Until(first.Add(time.Duration(n)*every))); n++ {
		batch := <-room
		into := &x.accepted
		var body []byte
		if x.cmd.Failing > 0 && n%(100/x.cmd.Failing) == 0 {
			into, body = &x.failing, failing
		} else {
			body = batch.fill(numbers)
			numbers += benchArray
		}
		go func() {
			defer func() { room <- batch }()
			accepted, err := x.load.publish(context.WithoutCancel(ctx), body)
			into.Add(accepted)
			if err != nil {
				x.refused.Add(benchArray - accepted)
				x.lastRefusal.Store(&err)
			}
		}()
	}
	for range soakInFlight {
		<-room
	}
}

// newSoakFailing is an array of events for the endpoint that refuses connections.
func newSoakFailing() []byte {
	body, data := []byte("["), newBenchData()
	for i := range benchArray {
		if i > 0 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"type":%q,"data":%s}`, soakFailing, data.event(i, time.Now()))
	}
	return append(body, ']')
}
