package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/running"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// Replay measures whether a replay slows live events: the latency of single events at 50/s, in windows that take
// turns, without and beside one replay that is paused and resumed. In the middle the pipeline is restarted, or killed; in
// the end the ledger must hold each event of the past once in the replay's generation.
type Replay struct {
	JSON    bool    `name:"json" help:"Print JSON instead of a table."`
	Events  int     `default:"100000" help:"How many events of the past are replayed."`
	Rate    int     `default:"1000" help:"Deliveries a second of the replay."`
	Live    int     `default:"50" help:"Events a second that are live."`
	Seconds float64 `default:"8" help:"How long each window is."`
	Rounds  int     `default:"10" help:"How many windows there are beside the replay, and as many without."`
	Restart string  `default:"stop" enum:"none,stop,kill" help:"What happens in the middle: none, stop (SIGTERM) or kill (SIGKILL)."`
}

// replayBench is one run.
type replayBench struct {
	cmd      Replay
	version  Version
	console  *terminal.Terminal
	receiver *replayReceiver
	dir      string
	pipeline *pipelineChild
	api      *client.Client
	db       *sql.DB

	subscription string // that receives the past
	replay       string // its id, once it was asked for
	next         int    // number of the next live event
}

// Run measures and prints.
func (cmd Replay) Run(ctx context.Context, c *terminal.Terminal, v Version) (err error) {
	if cmd.Events < 1 || cmd.Rate < 1 || cmd.Live < 1 || cmd.Seconds <= 0 || cmd.Rounds < 1 {
		return errors.New("--events, --rate, --live, --seconds and --rounds must be more than 0")
	}
	x := &replayBench{cmd: cmd, version: v, console: c, receiver: newReplayReceiver(cmd.Events)}
	if x.dir, err = tempDir(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(x.dir)) }()
	receiving, stop := context.WithCancel(ctx)
	group, receiving := errgroup.WithContext(receiving)
	defer func() {
		stop()
		err = errors.Join(err, group.Wait())
	}()
	if err := x.receiver.listen(receiving, group); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.stop()) }()
	if err := x.start(ctx); err != nil {
		return err
	}
	report, err := x.measure(ctx)
	if err != nil {
		return err
	}
	if err := report.write(c.Out, cmd.JSON); err != nil {
		return err
	}
	return report.verdict()
}

// start starts the pipeline, again in the same directory after a restart.
func (x *replayBench) start(ctx context.Context) (err error) {
	x.progress("Starting the pipeline in %s ...", x.dir)
	if x.pipeline, err = startPipeline(ctx, x.dir, "FANFARE_ADMIN_KEY="+benchKey); err != nil {
		return err
	}
	x.api = client.New(x.pipeline.at.API, benchKey)
	if x.db, err = sql.Open("postgres", x.pipeline.at.Postgres); err != nil {
		return fmt.Errorf("open the ledger: %w", err)
	}
	return nil
}

// stop stops the pipeline, if it runs.
func (x *replayBench) stop() error {
	if x.pipeline == nil {
		return nil
	}
	if x.api != nil {
		x.api.Close()
	}
	if x.db != nil {
		_ = x.db.Close() // The server goes as well.
	}
	err := x.pipeline.stop()
	x.pipeline = nil
	return err
}

// restart stops or kills the pipeline and starts it again. It returns after how long the replay went on, if one runs.
func (x *replayBench) restart(ctx context.Context) (time.Duration, error) {
	if x.cmd.Restart == "none" {
		return 0, nil
	}
	if err := x.resume(ctx); err != nil {
		return 0, err
	}
	begin := x.receiver.again.Load()
	err := x.until(ctx, "the replay sends", func() (bool, error) {
		now := x.receiver.again.Load()
		return now > begin || now >= int64(x.cmd.Events), nil
	})
	if err != nil {
		return 0, err
	}
	x.progress("Restart: %s, with %d of %d sent again ...", x.cmd.Restart, x.receiver.again.Load(), x.cmd.Events)
	if x.cmd.Restart == "kill" {
		if err := x.pipeline.cmd.Process.Kill(); err != nil {
			return 0, fmt.Errorf("kill the pipeline: %w", err)
		}
		<-x.pipeline.done
		if err := running.Remove(x.dir); err != nil {
			return 0, err
		}
		x.api.Close()
		_ = x.db.Close() // Its server is an orphan that the next start ends.
		x.pipeline = nil
	} else if err := x.stop(); err != nil {
		return 0, err
	}
	before, begun := x.receiver.again.Load(), time.Now()
	if err := x.start(ctx); err != nil {
		return 0, err
	}
	// What is claimed goes on at once; that a second's worth more came says that the replay itself does.
	err = x.until(ctx, "the replay goes on", func() (bool, error) {
		more := x.receiver.again.Load() - before
		return more >= int64(3*x.cmd.Rate) || before+more >= int64(x.cmd.Events), nil
	})
	return time.Since(begun), err
}

// publish publishes the past, and waits until the ledger has it: it was matched by nobody then.
func (x *replayBench) publish(ctx context.Context) error {
	x.progress("Publishing %d events ...", x.cmd.Events)
	data := newBenchData()
	for first := 0; first < x.cmd.Events; first += 1000 {
		body := []byte("[")
		for n := first; n < min(first+1000, x.cmd.Events); n++ {
			if n > first {
				body = append(body, ',')
			}
			body = fmt.Appendf(body, `{"type":"past","data":%s}`, data.event(n, time.Now()))
		}
		if err := x.api.Do(ctx, "POST /v1/events?tenant="+benchTenant, append(body, ']'), nil); err != nil {
			return err
		}
	}
	return x.until(ctx, "the past is in the ledger", func() (bool, error) {
		n := 0
		err := x.db.QueryRowContext(ctx, `SELECT count(*) FROM events`).Scan(&n)
		return n == x.cmd.Events, err
	})
}

// subscribe creates one subscription for live events and one for the past.
func (x *replayBench) subscribe(ctx context.Context) error {
	for _, name := range []string{"live", "past"} {
		var made struct{ ID string }
		err := x.api.Do(ctx, "POST /v1/subscriptions?tenant="+benchTenant, map[string]any{
			"name": name, "url": x.receiver.url + "/" + name, "event_types": []string{name},
		}, &made)
		if err != nil {
			return err
		}
		x.subscription = made.ID
	}
	return nil
}

// resume begins the replay or lets it go on, if it has not ended.
func (x *replayBench) resume(ctx context.Context) error {
	if x.replay == "" {
		var made struct{ ID string }
		err := x.api.Do(ctx, "POST /v1/subscriptions/"+x.subscription+"/replay?tenant="+benchTenant,
			map[string]any{"since": "2020-01-01T00:00:00Z", "only": "all", "rate": x.cmd.Rate}, &made)
		x.replay = made.ID
		return err
	}
	return x.move(ctx, "resume")
}

// Pause pauses the replay and waits until what it had sent has arrived.
func (x *replayBench) pause(ctx context.Context) error {
	if x.replay == "" {
		return nil
	}
	if err := x.move(ctx, "pause"); err != nil {
		return err
	}
	return x.until(ctx, "the replay pauses", func() (bool, error) {
		n := 0
		err := x.db.QueryRowContext(ctx, `SELECT count(*) FROM deferrals`).Scan(&n)
		return n == 0, err
	})
}

// replayView is the part of a replay that the bench reads.
type replayView struct {
	State         string
	Matched, Sent int
}

func (x *replayBench) view(ctx context.Context) (v replayView, err error) {
	return v, x.api.Do(ctx, "GET /v1/replays/"+x.replay+"?tenant="+benchTenant, nil, &v)
}

// move pauses or resumes the replay; one that is done stays so.
func (x *replayBench) move(ctx context.Context, verb string) error {
	v, err := x.view(ctx)
	if err != nil || v.State == "done" {
		return err
	}
	err = x.api.Do(ctx, "POST /v1/replays/"+x.replay+"/"+verb+"?tenant="+benchTenant, nil, nil)
	if err == nil {
		return nil
	}
	if v, again := x.view(ctx); again == nil && v.State == "done" {
		return nil // It ended between the two calls.
	}
	return err
}

// until waits for something that takes at most two minutes.
func (x *replayBench) until(ctx context.Context, what string, is func() (bool, error)) error {
	for deadline := time.Now().Add(benchDrain); ; {
		ok, err := is()
		if err != nil || ok {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v", what, benchDrain)
		}
		if !pause(ctx, 20*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

func (x *replayBench) progress(format string, v ...any) {
	fmt.Fprintf(x.console.Err, format+"\n", v...)
}
