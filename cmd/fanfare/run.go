package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/running"
	"github.com/fanfarehq/fanfare/internal/survive"
	"github.com/fanfarehq/fanfare/internal/telemetry"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// role is what a process does; `all` is every role.
type role string

const (
	roleAll     role = "all"
	roleAPI     role = "api"
	roleIngest  role = "ingest"
	roleFanout  role = "fanout"
	roleDeliver role = "deliver"
)

// is reports whether the process does what one of the roles does.
func (r role) is(any ...role) bool { return r == roleAll || slices.Contains(any, r) }

// runRole is what the commands of roles do.
func runRole(ctx context.Context, c *terminal.Terminal, r role) error {
	s, err := readSettings()
	if err != nil {
		return err
	}
	log := s.log.logger(c.Err).With("role", string(r), "version", version())
	err = serveInForeground(ctx, c, s, logged{r, log})
	if err != nil && s.log.Format == "json" && (!errors.Is(err, context.Canceled) || ctx.Err() == nil) {
		log.Error("process failed", "error", err.Error())
		return errLogged
	}
	return err
}

// errLogged is the end of a role whose error is in the log already.
var errLogged = errors.New("the error is in the log")

// logged is a role with its log.
type logged struct {
	role role
	log  *slog.Logger
}

func serveInForeground(ctx context.Context, c *terminal.Terminal, s *settings, as logged) error {
	r, log := as.role, as.log
	slog.SetDefault(log) // Also for what dependencies write with the standard logger.
	withoutCore()
	if err := s.refuseUnknown(func(variable, nearest string) {
		log.Warn("unknown setting", "variable", variable, "did_you_mean", nearest)
	}); err != nil {
		return err
	}
	bounded := background(ctx, boundMemory)
	defer func() { _ = bounded() }() // It fails at nothing.
	return serveRole(ctx, s, r, host{log: log, ready: func(_ context.Context, b banner) error {
		if r == roleAll {
			b.print(c.Out)
		}
		log.Info("ready", "api", b.at.API, "ops", b.at.Ops)
		return nil
	}})
}

// host is who runs a role.
type host struct {
	log *slog.Logger
	// ready is called once everything is up. If it returns an error, all is stopped.
	ready func(context.Context, banner) error
}

// serveRole makes a process of the role and runs it until ctx ends; then everything is undone in reverse.
func serveRole(ctx context.Context, s *settings, r role, by host) (err error) {
	var undo cleanup
	defer func() { err = errors.Join(err, undo.run()) }()
	fresh, err := s.ownKeys(r)
	if err != nil {
		return err
	}
	// Ports are bound before anything is started: one that is taken is the quickest to find out.
	doors, err := bind(s, r, &undo)
	if err != nil {
		return err
	}
	tracer, err := openTracer(ctx, r, by.log, &undo)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	o := &ops{role: string(r), metrics: registry, pprof: s.server.OpsPprof, starting: newWaits(by.log)}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	// Operations answer from now on, and until all else has ended.
	undo.add("operations", background(ctx, func(ctx context.Context) error {
		err := api.Serve(ctx, doors.ops, api.NewServer(o.handler(), by.log), drainTimeout)
		fail(err)
		return err
	}))
	back, err := openBacking(ctx, s, opening{log: by.log, waits: o.starting}, &undo)
	if err != nil {
		return err
	}
	if back.heartbeat, err = back.joins(ctx, r); err != nil {
		return err
	}
	if err := back.topology(ctx, s, topologyOf{r, by.log}); err != nil {
		return err
	}
	if err := back.refuseLostDatabase(ctx, s, by.log); err != nil {
		return err
	}
	p, err := assemble(ctx, s, r, ground{backing: back, log: by.log, metrics: registry, tracer: tracer})
	if err != nil {
		return err
	}
	undo.add("publishing", p.close)
	o.up(asks{
		checks: append(back.checks(s, r), check{"publishing", p.trouble}, check{"keys", func(context.Context) error { return p.ring.Trouble() }}),
		durable: func(ctx context.Context) (bool, string, error) {
			return jetstream.Durability(ctx, back.nc, back.js, needed(s, r)...)
		},
		lost: back.lostEvents,
	})

	p.loop("monitor", newMonitor(o, p.ground, p.ring).run)
	p.loop("measure streams", jetstream.NewMonitor(back.js, registry, inboxes(s)...).Run)
	context.AfterFunc(ctx, func() { o.stopping.Store(true) })
	working, cancel := s.delayed(ctx, r)
	defer cancel()
	group, alive := errgroup.WithContext(working)
	// It ends after all else: a worker that drains still has its share of max_in_flight.
	undo.add("heartbeat", background(ctx, func(ctx context.Context) error { return survive.Loop(ctx, by.log, "heartbeat", back.heartbeat.Run) }))
	if r == roleAll {
		p.loop("topology", func(ctx context.Context) error { return back.keepTopology(ctx, s, by.log) })
	}
	if back.private != nil {
		p.loop("supervise Postgres", back.private.Supervise)
	}
	if back.nats != nil {
		p.loop("supervise NATS", back.nats.Supervise)
	}
	for _, run := range p.runs {
		group.Go(func() error { return named(run.name, run.run(alive)) })
	}
	if doors.api != nil {
		server := withVendors(api.NewServer(newAPIMetrics(registry, p.routes(), by.log).around(p.mux), by.log), p.vendors)
		server.Handler = s.proxies.Handler(server.Handler)
		group.Go(func() error { return api.Serve(alive, doors.api, server, drainTimeout) })
	}
	group.Go(func() error {
		b := banner{at: doors.at(back, s), dataDir: s.server.DataDir, embedded: back.nats != nil, private: back.private != nil, dialects: where(p.vendors)}
		if fresh {
			b.adminKey = s.access.AdminKey
		}
		if r == roleAll {
			if err := b.at.Write(s.server.DataDir); err != nil {
				return err
			}
			defer func() { _ = running.Remove(s.server.DataDir) }()
		}
		if err := by.ready(alive, b); err != nil {
			return err
		}
		<-alive.Done()
		return nil
	})
	return group.Wait()
}

// delayed returns a context that ends later than ctx, so that a load balancer, which learns from /readyz that the process stops,
// sends it nothing any more when the listener of the API closes. A role without the API stops at once.
func (s *settings) delayed(ctx context.Context, r role) (context.Context, context.CancelFunc) {
	delay := s.server.shutdownDelay()
	if delay == 0 || !r.is(roleAPI, roleIngest) {
		return context.WithCancel(ctx)
	}
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(delay, cancel) })
	return later, func() { stop(); cancel() }
}

// background runs something until the returned function is called, which waits for it; the end of ctx does not end it.
func background(ctx context.Context, run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}

// openTracer makes what traces events; nil if OTEL_* asks for none. The last traces are sent when all else has stopped.
func openTracer(ctx context.Context, r role, log *slog.Logger, undo *cleanup) (*telemetry.Tracer, error) {
	tracer, err := telemetry.Open(ctx, telemetry.Process{Role: string(r), Version: version()}, log)
	if tracer != nil {
		undo.add("traces", func() error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracesTimeout)
			defer cancel()
			if err := tracer.Close(ctx); err != nil {
				log.Warn("traces were lost", "error", err) // No reason to end with an error: nothing else is.
			}
			return nil
		})
	}
	return tracer, err
}

// tracesTimeout is how long a process that stops waits for its collector.
const tracesTimeout = 3 * time.Second

// named says which part of the process failed.
func named(part string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", part, err)
	}
	return nil
}

// ownKeys makes the keys in `all`; other roles share them and must be given them.
func (s *settings) ownKeys(r role) (fresh bool, err error) {
	if r == roleAll {
		return s.keepKeys()
	}
	return false, s.needExternal(string(r))
}

// doors are the process's listeners; api is nil if the role serves none.
type doors struct {
	api, ops net.Listener
}

// bind opens the listeners. An error names the variable that holds the address.
func bind(s *settings, r role, undo *cleanup) (d doors, err error) {
	listen := func(variable, addr string) (net.Listener, error) {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", variable, err)
		}
		undo.add(variable, func() error { _ = l.Close(); return nil }) // A server has closed it already.
		return l, nil
	}
	if d.ops, err = listen("FANFARE_OPS_ADDR", s.server.OpsAddr); err != nil {
		return d, err
	}
	if r.is(roleAPI, roleIngest) {
		d.api, err = listen("FANFARE_ADDR", s.server.Addr)
	}
	return d, err
}

// at says where everything can be reached.
func (d doors) at(back *backing, s *settings) running.Process {
	at := running.Process{PID: os.Getpid(), Ops: "http://" + d.ops.Addr().String(), NATS: back.natsURL(s), Postgres: back.url}
	if d.api != nil {
		at.API = "http://" + d.api.Addr().String()
	}
	if back.private != nil {
		at.PostgresPID = back.private.PID()
	}
	return at
}
