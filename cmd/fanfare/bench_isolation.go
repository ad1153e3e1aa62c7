package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fanfarehq/fanfare/internal/api"
)

// benchIsolationCmd measures whether endpoints in trouble slow the others: the latency of a thousand quick endpoints at
// half of what the machine can do, with and without three bad ones beside them.
type benchIsolationCmd struct {
	JSON      bool    `name:"json" help:"Print JSON instead of a table."`
	Endpoints int     `default:"1000" help:"How many quick endpoints there are."`
	Seconds   float64 `default:"5" help:"How long each window is."`
	Rounds    int     `default:"3" help:"How many windows there are with the bad endpoints, and as many without; medians are printed."`
	Share     int     `default:"10" help:"How many times as much as a quick endpoint each bad one is sent."`
	Rate      int     `default:"0" help:"Deliveries a second to the quick endpoints; 0 measures what the machine can do and takes half."`
}

// isolationReport is what it comes to.
type isolationReport struct {
	Machine   benchMachine   `json:"machine"`
	Endpoints int            `json:"endpoints"`
	Capacity  float64        `json:"deliveries_per_second_at_most"`
	Rate      int            `json:"deliveries_per_second"`
	Without   []benchLatency `json:"without_bad_endpoints"`
	With      []benchLatency `json:"with_bad_endpoints"`
	P99       [2]float64     `json:"p99_ms_without_and_with"`
	Ratio     float64        `json:"p99_ratio"`
	Bad       int64          `json:"requests_of_bad_endpoints"`
}

// isolation is one run.
type isolation struct {
	cmd     benchIsolationCmd
	console *console
	api     *client
	urls    [2]string // of the receiver, and of the port that resets
	bad     []string  // ids of the bad subscriptions
	next    int       // number of the next event

	received atomic.Int64
	requests atomic.Int64 // of the bad endpoints
	timing   atomic.Bool
	mu       sync.Mutex
	times    []time.Duration
}

// Run measures and prints.
func (cmd benchIsolationCmd) Run(ctx context.Context, c *console) (err error) {
	if cmd.Endpoints < 1 || cmd.Seconds <= 0 || cmd.Rounds < 1 || cmd.Share < 1 || cmd.Share > cmd.Endpoints || cmd.Rate < 0 {
		return errors.New("--endpoints, --seconds, --rounds and --share must be more than 0, --share at most --endpoints")
	}
	dir, err := tempDataDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	receiving, stop := context.WithCancel(ctx)
	group, receiving := errgroup.WithContext(receiving)
	defer func() {
		stop()
		err = errors.Join(err, group.Wait())
	}()
	x := &isolation{cmd: cmd, console: c}
	if err := x.listen(receiving, group); err != nil {
		return err
	}
	fmt.Fprintf(c.err, "Starting the pipeline in %s ...\n", dir)
	pipeline, err := startPipeline(ctx, dir, envPrefix+"_ADMIN_KEY="+benchKey)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pipeline.stop()) }()
	x.api = newClient(pipeline.at.API, benchKey)
	defer x.api.close()
	report, err := x.measure(ctx)
	if err != nil {
		return err
	}
	return report.write(c.out, cmd.JSON)
}

// listen starts the endpoints.
func (x *isolation) listen(ctx context.Context, group *errgroup.Group) error {
	receiver, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	resets, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	x.urls = [2]string{"http://" + receiver.Addr().String(), "http://" + resets.Addr().String()}
	group.Go(func() error { return serve(ctx, receiver, api.NewServer(http.HandlerFunc(x.receive), nil)) })
	group.Go(func() error {
		defer context.AfterFunc(ctx, func() { _ = resets.Close() })()
		for {
			conn, err := resets.Accept()
			if err != nil {
				return nil //nolint:nilerror // It was closed: the end of the run.
			}
			x.requests.Add(1)
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = conn.Close()
		}
	})
	return nil
}

// receive is every endpoint but the one that resets.
func (x *isolation) receive(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	body, _ := io.ReadAll(io.LimitReader(req.Body, 64<<10))
	switch req.URL.Path {
	case "/slow":
		x.requests.Add(1)
		pause(req.Context(), 10*time.Second)
	case "/500":
		x.requests.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
		return
	default:
		if _, sent, ok := readBenchEvent(body); ok && x.timing.Load() {
			x.mu.Lock()
			x.times = append(x.times, now.Sub(sent))
			x.mu.Unlock()
		}
		x.received.Add(1)
	}
	w.WriteHeader(http.StatusNoContent)
}

// isolationType is the type of the events that one quick endpoint gets.
func isolationType(n int) string { return "isolation.t" + strconv.Itoa(n) }

// subscribe creates the subscriptions.
func (x *isolation) subscribe(ctx context.Context) error {
	create := func(url string, types []string) (id string, err error) {
		var made struct{ ID string }
		err = x.api.do(ctx, "POST /v1/subscriptions?tenant="+benchTenant,
			map[string]any{"name": "isolation", "url": url, "event_types": types}, &made)
		return made.ID, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for n := range x.cmd.Endpoints {
		group.Go(func() error {
			if groupCtx.Err() != nil {
				return nil
			}
			_, err := create(fmt.Sprintf("%s/e/%d", x.urls[0], n), []string{isolationType(n)})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var types []string
	for n := range x.cmd.Share {
		types = append(types, isolationType(n))
	}
	for _, url := range []string{x.urls[0] + "/slow", x.urls[1] + "/reset", x.urls[0] + "/500"} {
		id, err := create(url, types)
		if err != nil {
			return err
		}
		x.bad = append(x.bad, id)
	}
	return x.setBad(ctx, "disabled")
}

// setBad enables or disables the bad subscriptions.
func (x *isolation) setBad(ctx context.Context, status string) error {
	for _, id := range x.bad {
		if err := x.api.do(ctx, "PATCH /v1/subscriptions/"+id+"?tenant="+benchTenant, map[string]any{"status": status}, nil); err != nil {
			return err
		}
	}
	return nil
}

// measure runs the windows, by turns without and with the bad endpoints.
func (x *isolation) measure(ctx context.Context) (*isolationReport, error) {
	r := &isolationReport{Endpoints: x.cmd.Endpoints, Rate: x.cmd.Rate, Machine: newBenchMachine(benchCmd{Rounds: x.cmd.Rounds, Seconds: x.cmd.Seconds})}
	if err := x.subscribe(ctx); err != nil {
		return nil, err
	}
	if r.Rate == 0 {
		capacity, err := x.capacity(ctx)
		if err != nil {
			return nil, err
		}
		r.Capacity, r.Rate = capacity, max(int(capacity/2), 1)
	}
	fmt.Fprintf(x.console.err, "%d deliveries/s to %d endpoints ...\n", r.Rate, x.cmd.Endpoints)
	if _, err := x.window(ctx, r.Rate, "disabled"); err != nil { // to warm up
		return nil, err
	}
	for round := range x.cmd.Rounds {
		without, err := x.window(ctx, r.Rate, "disabled")
		if err != nil {
			return nil, err
		}
		with, err := x.window(ctx, r.Rate, "active")
		if err != nil {
			return nil, err
		}
		r.Without, r.With = append(r.Without, without), append(r.With, with)
		fmt.Fprintf(x.console.err, "Round %d: p99 %.1f ms without, %.1f ms with\n", round+1, without.P99, with.P99)
	}
	r.sum()
	r.Bad = x.requests.Load()
	return r, nil
}

// capacity is how many deliveries a second the machine makes.
func (x *isolation) capacity(ctx context.Context) (float64, error) {
	fmt.Fprintln(x.console.err, "Measuring what the machine can do ...")
	data := newBenchData()
	begun, before := time.Now(), x.received.Load()
	for sent := int64(0); time.Since(begun) < length(x.cmd.Seconds); {
		if sent-(x.received.Load()-before) > benchLead {
			pause(ctx, time.Millisecond)
			continue
		}
		if err := x.publish(ctx, data, benchArray*5); err != nil {
			return 0, err
		}
		sent += benchArray * 5
	}
	rate := float64(x.received.Load()-before) / time.Since(begun).Seconds()
	return rate, x.drain(ctx)
}

// window sends at a rate for a while and returns the latencies of the quick endpoints.
func (x *isolation) window(ctx context.Context, rate int, bad string) (benchLatency, error) {
	const step = 10 * time.Millisecond
	if err := x.setBad(ctx, bad); err != nil {
		return benchLatency{}, err
	}
	x.mu.Lock()
	x.times = nil
	x.mu.Unlock()
	x.timing.Store(true)
	group, groupCtx := errgroup.WithContext(ctx)
	data, begun, sent := newBenchData(), time.Now(), 0
	for since := time.Duration(0); since < length(x.cmd.Seconds); since += step {
		if !pause(groupCtx, time.Until(begun.Add(since))) {
			break
		}
		n := int(float64(rate)*(since+step).Seconds()) - sent
		if n == 0 {
			continue
		}
		body := x.batch(data, n)
		sent += n
		group.Go(func() error { return x.api.do(groupCtx, "POST /v1/events?tenant="+benchTenant, body, nil) })
	}
	if err := group.Wait(); err != nil {
		return benchLatency{}, err
	}
	if err := x.drain(ctx); err != nil {
		return benchLatency{}, err
	}
	x.timing.Store(false)
	x.mu.Lock()
	defer x.mu.Unlock()
	return newBenchLatency(rate, x.times), nil
}

func (x *isolation) publish(ctx context.Context, data benchData, n int) error {
	return x.api.do(ctx, "POST /v1/events?tenant="+benchTenant, x.batch(data, n), nil)
}

// batch is the body of a request with the next n events, each for another endpoint.
func (x *isolation) batch(data benchData, n int) []byte {
	body := []byte("[")
	for i := range n {
		if i > 0 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"type":%q,"data":%s}`, isolationType(x.next%x.cmd.Endpoints), data.event(x.next, time.Now()))
		x.next++
	}
	return append(body, ']')
}

// drain waits until the quick endpoints have received all.
func (x *isolation) drain(ctx context.Context) error {
	for deadline := time.Now().Add(benchDrain); x.received.Load() < int64(x.next); {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d deliveries arrived within %v", x.received.Load(), x.next, benchDrain)
		}
		if !pause(ctx, 10*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// sum computes the medians.
func (r *isolationReport) sum() {
	p99 := func(list []benchLatency) float64 {
		values := make([]float64, len(list))
		for i, l := range list {
			values[i] = l.P99
		}
		return median(values)
	}
	r.P99 = [2]float64{p99(r.Without), p99(r.With)}
	r.Ratio = r.P99[1] / r.P99[0]
}

// write writes the report, for machines or for people.
func (r *isolationReport) write(w io.Writer, machines bool) error {
	if machines {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	m := r.Machine
	_, err := fmt.Fprintf(w, `
%d cores, %s, %s, fanfare %s; %d quick endpoints, %d deliveries/s, medians of %d windows of %v s
p99 without bad endpoints  %8.1f ms
p99 with three of them     %8.1f ms   (one takes 10 s, one resets, one answers 500; %d requests to them)
ratio                      %8.2f
`, m.Cores, m.System, m.Go, m.Version, r.Endpoints, r.Rate, m.Rounds, m.Seconds, r.P99[0], r.P99[1], r.Bad, r.Ratio)
	return err
}
