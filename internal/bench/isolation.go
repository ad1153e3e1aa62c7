package bench

import (
	"context"
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
	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// Isolation measures whether endpoints in trouble slow the others: the latency of a thousand quick endpoints at
// half of what the machine can do, with and without three bad ones beside them. Short windows with and without them take
// turns, in pairs whose order changes, so that whatever else the machine does falls on both; p99 is that of all deliveries of a
// kind together. What the same machine makes of two halves of the windows without bad endpoints is printed as well: a
// ratio nearer to 1 than that one says nothing.
type Isolation struct {
	JSON      bool    `name:"json" help:"Print JSON instead of a table."`
	Endpoints int     `default:"1000" help:"How many quick endpoints there are."`
	Seconds   float64 `default:"2" help:"How long each window is."`
	Rounds    int     `default:"12" help:"How many windows there are with the bad endpoints, and as many without."`
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
	Bad       int64          `json:"requests_of_bad_endpoints"`
	comparison
}

// isolation is one run.
type isolation struct {
	cmd     Isolation
	version Version
	console *terminal.Terminal
	api     *client.Client
	urls    [3]string // of the quick endpoints, of the slow one and the one that answers 500, and of the port that resets
	bad     []string  // ids of the bad subscriptions
	next    int       // number of the next event

	received atomic.Int64
	requests atomic.Int64 // of the bad endpoints
	from     atomic.Int64 // events sent before are not timed, ns since 1970; 0: none is
	mu       sync.Mutex
	times    []time.Duration
}

// Run measures and prints.
func (cmd Isolation) Run(ctx context.Context, c *terminal.Terminal, v Version) (err error) {
	if cmd.Endpoints < 1 || cmd.Seconds <= 0 || cmd.Rounds < 1 || cmd.Share < 1 || cmd.Share > cmd.Endpoints || cmd.Rate < 0 {
		return errors.New("--endpoints, --seconds, --rounds and --share must be more than 0, --share at most --endpoints")
	}
	dir, err := tempDir()
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
	x := &isolation{cmd: cmd, version: v, console: c}
	if err := x.listen(receiving, group); err != nil {
		return err
	}
	fmt.Fprintf(c.Err, "Starting the pipeline in %s ...\n", dir)
	pipeline, err := startPipeline(ctx, dir, "FANFARE_ADMIN_KEY="+benchKey)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pipeline.stop()) }()
	x.api = client.New(pipeline.at.API, benchKey)
	defer x.api.Close()
	report, err := x.measure(ctx)
	if err != nil {
		return err
	}
	return report.write(c.Out, cmd.JSON)
}

// listen starts the endpoints.
func (x *isolation) listen(ctx context.Context, group *errgroup.Group) error {
	receiver, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	trouble, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	resets, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	x.urls = [3]string{"http://" + receiver.Addr().String(), "http://" + trouble.Addr().String(), "http://" + resets.Addr().String()}
	for _, l := range []net.Listener{receiver, trouble} {
		group.Go(func() error { return api.Serve(ctx, l, api.NewServer(http.HandlerFunc(x.receive), nil), stopTimeout) })
	}
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
		from := x.from.Load()
		if _, sent, ok := readBenchEvent(body); ok && from > 0 && sent.UnixNano() >= from {
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
		err = x.api.Do(ctx, "POST /v1/subscriptions?tenant="+benchTenant,
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
	for _, url := range []string{x.urls[1] + "/slow", x.urls[2] + "/reset", x.urls[1] + "/500"} {
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
		if err := x.api.Do(ctx, "PATCH /v1/subscriptions/"+id+"?tenant="+benchTenant, map[string]any{"status": status}, nil); err != nil {
			return err
		}
	}
	return nil
}

// measure runs the windows, by turns without and with the bad endpoints.
func (x *isolation) measure(ctx context.Context) (*isolationReport, error) {
	r := &isolationReport{Endpoints: x.cmd.Endpoints, Rate: x.cmd.Rate, Machine: newBenchMachine(Throughput{Rounds: x.cmd.Rounds, Seconds: x.cmd.Seconds}, x.version)}
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
	fmt.Fprintf(x.console.Err, "%d deliveries/s to %d endpoints ...\n", r.Rate, x.cmd.Endpoints)
	if _, err := x.window(ctx, r.Rate, "disabled"); err != nil { // to warm up
		return nil, err
	}
	var times [2][][]time.Duration // without and with, by window
	for round := range x.cmd.Rounds {
		for turn := range 2 {
			kind := (round + turn) % 2
			window, err := x.window(ctx, r.Rate, [2]string{"disabled", "active"}[kind])
			if err != nil {
				return nil, err
			}
			times[kind] = append(times[kind], window)
		}
	}
	r.sum(times)
	r.Bad = x.requests.Load()
	return r, nil
}

// capacity is how many deliveries a second the machine makes, once it is warm.
func (x *isolation) capacity(ctx context.Context) (float64, error) {
	fmt.Fprintln(x.console.Err, "Measuring what the machine can do ...")
	data := newBenchData()
	var rate float64
	for range 2 {
		begun, before := time.Now(), x.received.Load()
		for time.Since(begun) < length(x.cmd.Seconds) {
			if int64(x.next)-x.received.Load() > benchLead {
				pause(ctx, time.Millisecond)
				continue
			}
			if err := x.publish(ctx, data, benchArray*5); err != nil {
				return 0, err
			}
		}
		rate = float64(x.received.Load()-before) / time.Since(begun).Seconds()
	}
	return rate, x.drain(ctx)
}

// window sends at a rate for a while and returns the latencies of the quick endpoints. Its first part, in which the bad
// ones come or go, is not timed.
func (x *isolation) window(ctx context.Context, rate int, bad string) ([]time.Duration, error) {
	const step = 10 * time.Millisecond
	if err := x.setBad(ctx, bad); err != nil {
		return nil, err
	}
	lead := length(x.cmd.Seconds) / 4
	group, groupCtx := errgroup.WithContext(ctx)
	data, begun, sent := newBenchData(), time.Now(), 0
	x.mu.Lock()
	x.times = nil
	x.mu.Unlock()
	x.from.Store(begun.Add(lead).UnixNano())
	for since := time.Duration(0); since < length(x.cmd.Seconds)+lead; since += step {
		if !pause(groupCtx, time.Until(begun.Add(since))) {
			break
		}
		n := int(float64(rate)*(since+step).Seconds()) - sent
		if n == 0 {
			continue
		}
		body := x.batch(data, n)
		sent += n
		group.Go(func() error { return x.api.Do(groupCtx, "POST /v1/events?tenant="+benchTenant, body, nil) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := x.drain(ctx); err != nil {
		return nil, err
	}
	x.from.Store(0)
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.times, nil
}

func (x *isolation) publish(ctx context.Context, data benchData, n int) error {
	return x.api.Do(ctx, "POST /v1/events?tenant="+benchTenant, x.batch(data, n), nil)
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

// sum computes what the windows come to: without and with bad endpoints.
func (r *isolationReport) sum(times [2][][]time.Duration) {
	for _, window := range times[0] {
		r.Without = append(r.Without, newBenchLatency(r.Rate, window))
	}
	for _, window := range times[1] {
		r.With = append(r.With, newBenchLatency(r.Rate, window))
	}
	r.comparison = compare(r.Rate, times)
}

// write writes the report, for machines or for people.
func (r *isolationReport) write(w io.Writer, machines bool) error {
	if machines {
		return writeJSON(w, r)
	}
	m := r.Machine
	_, err := fmt.Fprintf(w, `
%d cores, %s, %s, fanfare %s; %d quick endpoints, %d deliveries/s, %d windows of %v s of each kind
p99 without bad endpoints  %8.1f ms   (%d deliveries)
p99 with three of them     %8.1f ms   (%d; one takes 10 s, one resets, one answers 500: %d requests to them)
ratio                      %8.2f      (median of the pairs %.2f; without to without %.2f)
`, m.Cores, m.System, m.Go, m.Version, r.Endpoints, r.Rate, m.Rounds, m.Seconds, r.P99[0], r.Samples[0], r.P99[1], r.Samples[1], r.Bad,
		r.Ratio, r.Pairs, r.Noise)
	return err
}
