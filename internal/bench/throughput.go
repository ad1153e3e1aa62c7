package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// Throughput measures the whole pipeline on this machine. Receiver, pipeline and bare loop are processes of their
// own; this one publishes. The windows of all sides alternate, so that what the machine does meanwhile hits all.
type Throughput struct {
	JSON    bool    `name:"json" help:"Print JSON instead of a table."`
	Seconds float64 `default:"3" help:"How long each window of load is."`
	Rounds  int     `default:"3" help:"How many windows there are of each; medians are printed."`
	Fanout  []int   `default:"1,10,100" help:"How many subscriptions an event goes to; divisors of 100."`
	// Publishers are closed loops: ordinary load.
	Publishers []int   `default:"1,16,64,256" help:"How many publishers there are that each wait for their answer; 0 leaves that out."`
	Posters    int     `default:"64" help:"How many POSTs the bare loop has in flight."`
	Steady     float64 `default:"20" help:"For how many seconds the end-to-end latency is measured."`
	NATS       string  `name:"nats" placeholder:"URL" help:"NATS servers to use instead of one in the pipeline; their streams must exist (fanfare topology apply) and be empty."`
	Profile    string  `placeholder:"DIR" help:"Write CPU profiles of the pipeline into this directory, one for each fan-out; they cost a little."`
}

// length is a time of so many seconds.
func length(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

const (
	benchTenant = "bench"
	benchRate   = 50 // events/s while the latency is measured
	benchKey    = "bench-admin-key-of-this-run-only"
)

// Run starts the processes, measures and stops them, in whatever way it ends.
func (cmd Throughput) Run(ctx context.Context, c *terminal.Terminal, v Version) (err error) {
	if cmd.Seconds <= 0 || cmd.Steady <= 0 || cmd.Rounds < 1 || cmd.Posters < 1 {
		return errors.New("--seconds, --steady, --rounds and --posters must be more than 0")
	}
	for _, n := range cmd.Publishers {
		if n < 0 || n > 1000 {
			return fmt.Errorf("--publishers %d: it must be 0 to 1000", n)
		}
	}
	for _, f := range cmd.Fanout {
		if f < 1 || f > benchEndpoints || benchEndpoints%f != 0 {
			return fmt.Errorf("--fanout %d: it must divide %d", f, benchEndpoints)
		}
	}
	b := &bench{cmd: cmd, console: c, report: benchReport{Machine: newBenchMachine(cmd, v)}}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.start(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	if cmd.JSON {
		return writeJSON(c.Out, b.report)
	}
	b.report.writeTable(c.Out)
	if !b.report.Ledger.complete() {
		return errors.New("the ledger does not hold all that was sent")
	}
	return nil
}

// bench is one run.
type bench struct {
	cmd     Throughput
	console *terminal.Terminal
	report  benchReport

	dir       string
	pipeline  *pipelineChild
	receiver  *child
	bare      *child
	endpoints []string
	load      benchLoad
	sent      int64
}

// progress reports each step, where the result does not go.
func (b *bench) progress(format string, v ...any) { fmt.Fprintf(b.console.Err, format+"\n", v...) }

// start brings up the receiver, the pipeline and the bare loop, and creates the subscriptions.
func (b *bench) start(ctx context.Context) (err error) {
	if b.dir, err = tempDir(); err != nil {
		return err
	}
	if b.receiver, err = startChild(ctx, nil, "bench-receiver"); err != nil {
		return err
	}
	var where receiverAddress
	err = b.receiver.readLine(&where)
	b.receiver.watch()
	if err != nil {
		return err
	}
	b.endpoints = where.Endpoints
	b.progress("Starting the pipeline in %s ...", b.dir)
	b.pipeline, err = startPipeline(ctx, b.dir, "FANFARE_ADMIN_KEY="+benchKey, "FANFARE_NATS_URL="+b.cmd.NATS,
		fmt.Sprintf("FANFARE_OPS_PPROF=%t", b.cmd.Profile != ""))
	if err != nil {
		return err
	}
	b.load = benchLoad{api: client.New(b.pipeline.at.API, benchKey), receiver: client.New(where.Control, "")}
	if b.bare, err = startChild(ctx, nil, "bench-bare"); err != nil {
		return err
	}
	return nil
}

// stop ends the children, last first, and removes their files.
func (b *bench) stop() error {
	var errs []error
	for _, c := range []*client.Client{b.load.api, b.load.receiver} {
		if c != nil {
			c.Close()
		}
	}
	if b.bare != nil {
		b.bare.watch()
		errs = append(errs, b.bare.stop())
	}
	if b.pipeline != nil {
		errs = append(errs, b.pipeline.stop())
	}
	if b.receiver != nil {
		errs = append(errs, b.receiver.stop())
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}

// measure runs all windows.
func (b *bench) measure(ctx context.Context) (err error) {
	const settle = 3 * time.Second
	pause(ctx, settle)
	if b.report.Memory.Idle, _, err = memoryOf(b.pipeline.at.PID); err != nil {
		return err
	}
	if err := b.subscribe(ctx); err != nil {
		return err
	}
	b.progress("Warming up ...")
	if _, err := b.round(ctx, 10, length(min(b.cmd.Seconds, 1))); err != nil {
		return err
	}
	b.report.Fanouts = make([]benchFanout, len(b.cmd.Fanout))
	for round := range b.cmd.Rounds {
		for i, fanout := range b.cmd.Fanout {
			m, err := b.round(ctx, fanout, length(b.cmd.Seconds))
			if err != nil {
				return fmt.Errorf("fan-out %d: %w", fanout, err)
			}
			b.report.Fanouts[i].Fanout = fanout
			b.report.Fanouts[i].Windows = append(b.report.Fanouts[i].Windows, m)
			b.progress("Round %d, fan-out %3d: bare %6.0f/s, pipeline %6.0f/s", round+1, fanout, m.Bare.Window.rate(), m.Pipeline.rate())
		}
		if err := b.ordinary(ctx, round); err != nil {
			return err
		}
	}
	for i := range b.report.Fanouts {
		b.report.Fanouts[i].sum()
	}
	for i := range b.report.Publishers {
		b.report.Publishers[i].sum()
	}
	b.progress("Measuring latency at %d events/s for %v s ...", benchRate, b.cmd.Steady)
	latencies, err := b.load.steady(ctx, benchRate, length(b.cmd.Steady))
	if err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	b.sent += int64(len(latencies))
	b.report.Latency = newBenchLatency(benchRate, latencies)
	if _, b.report.Memory.Peak, err = memoryOf(b.pipeline.at.PID); err != nil {
		return err
	}
	return b.checkLedger(ctx)
}

// ordinary runs the windows of ordinary load of a round.
func (b *bench) ordinary(ctx context.Context, round int) error {
	if round == 0 {
		for _, n := range b.cmd.Publishers {
			if n > 0 {
				b.report.Publishers = append(b.report.Publishers, benchPublishers{Publishers: n})
			}
		}
	}
	for i := range b.report.Publishers {
		p := &b.report.Publishers[i]
		w, err := b.publishersRound(ctx, p.Publishers, length(b.cmd.Seconds))
		if err != nil {
			return fmt.Errorf("%d publishers: %w", p.Publishers, err)
		}
		p.Windows = append(p.Windows, w)
		b.progress("Round %d, %3d publishers: %6.0f events/s", round+1, p.Publishers, float64(w.Events)/w.Elapsed.Seconds())
	}
	return nil
}

// subscribe creates the subscriptions: at each fan-out, every endpoint has one of them.
func (b *bench) subscribe(ctx context.Context) error {
	done := map[int]bool{}
	for _, fanout := range append([]int{1, 10}, b.cmd.Fanout...) { // 1 is for the latency, 10 for the warm-up.
		if done[fanout] {
			continue
		}
		done[fanout] = true
		for i, url := range b.endpoints {
			err := b.load.api.Do(ctx, "POST /v1/subscriptions?tenant="+benchTenant, map[string]any{
				"name": fmt.Sprintf("fan-out %d, endpoint %d", fanout, i), "url": url,
				"event_types": []string{benchType(fanout, i/fanout)},
			}, nil)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// round is a window of the bare loop by either client, and one of the pipeline.
func (b *bench) round(ctx context.Context, fanout int, length time.Duration) (m benchMeasured, err error) {
	if err := b.load.receiver.Do(ctx, "POST /begin", nil, nil); err != nil {
		return m, err
	}
	if m.Bare, err = b.bareWindow(false, length); err != nil {
		return m, err
	}
	if m.Guarded, err = b.bareWindow(true, length); err != nil {
		return m, err
	}
	before, err := b.pipeline.cpu()
	if err != nil {
		return m, err
	}
	profiled := b.profile(ctx, fanout, length)
	if m.Pipeline, err = b.load.full(ctx, fanout, length); err != nil {
		return m, err
	}
	if err := <-profiled; err != nil {
		return m, err
	}
	b.sent += m.Pipeline.Deliveries
	// What the window left to do, such as writing the ledger, counts as its cost.
	after, err := b.pipeline.settled(ctx)
	if err != nil {
		return m, err
	}
	m.FanfareCPU, m.PostgresCPU = after.fanfare-before.fanfare, after.postgres-before.postgres
	return m, nil
}

// profile takes the pipeline's CPU profile of a window, if it was asked for: the last round's stays.
func (b *bench) profile(ctx context.Context, fanout int, length time.Duration) <-chan error {
	done := make(chan error, 1)
	if b.cmd.Profile == "" {
		close(done)
		return done
	}
	go func() {
		url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", b.pipeline.at.Ops, max(1, int(length.Seconds())))
		done <- download(ctx, url, filepath.Join(b.cmd.Profile, fmt.Sprintf("fanout-%d.pprof", fanout)))
	}()
	return done
}

// checkLedger counts what Postgres holds once it has caught up.
func (b *bench) checkLedger(ctx context.Context) error {
	db, err := sql.Open("postgres", b.pipeline.at.Postgres)
	if err != nil {
		return fmt.Errorf("open the ledger: %w", err)
	}
	defer db.Close()
	const count = `SELECT (SELECT count(*) FROM deliveries WHERE state = 'delivered'),
		(SELECT count(*) FROM deliveries WHERE state <> 'delivered') + (SELECT count(*) FROM deferrals)`
	for deadline := time.Now().Add(30 * time.Second); ; {
		l := benchLedger{Sent: b.sent}
		if err := db.QueryRowContext(ctx, count).Scan(&l.Delivered, &l.Other); err != nil {
			return fmt.Errorf("count the ledger: %w", err)
		}
		if b.report.Ledger = l; l.complete() || time.Now().After(deadline) || !pause(ctx, 200*time.Millisecond) {
			return ctx.Err()
		}
	}
}
