package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"

	"github.com/fanfarehq/fanfare/deploy"
	"github.com/fanfarehq/fanfare/internal/api"
)

// demoCmd shows the pipeline at work, in a data directory of its own and on free ports.
type demoCmd struct {
	Keep bool `help:"Keep everything running at the end, to look around."`
}

const (
	demoTenant = "demo"
	demoLimit  = time.Minute // for all deliveries to end
)

// Run fails unless the numbers add up.
func (cmd demoCmd) Run(ctx context.Context, c *console) (err error) {
	s, err := readSettings()
	if err != nil {
		return err
	}
	// Everything is the demo's own; the environment decides nothing that could mix it with what runs already.
	s.server.DataDir, err = tempDataDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.server.DataDir)) }()
	s.server.Addr, s.server.OpsAddr, s.server.NATSListen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	s.nats.URL, s.server.PostgresURL, s.server.SecretKeys, s.access.AdminKey = "", "", "", ""
	s.egress.AllowPrivateCIDRs = "127.0.0.0/8"
	s.server.ShutdownDelay = new(time.Duration) // No load balancer needs to notice.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the demo's webhooks: %w", err)
	}
	d := &demo{console: c, receiver: newDemoReceiver(), hooks: "http://" + listener.Addr().String()}

	fmt.Fprintln(c.out, "Starting NATS, Postgres and every role ...")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve(ctx, listener, api.NewServer(d.receiver, nil)) })
	group.Go(func() error {
		return serveRole(ctx, s, roleAll, host{log: quiet(c), ready: func(ctx context.Context, b banner) error {
			if err := d.run(ctx, b); err != nil {
				return err
			}
			if cmd.Keep {
				fmt.Fprintf(c.out, "\nThe API is %s, its admin key %s. Ctrl-C ends it.\n", b.at.API, b.adminKey)
				<-ctx.Done()
			}
			cancel()
			return nil
		}})
	})
	return group.Wait()
}

// quiet logs what goes wrong, and nothing else: the demo's own words are on the terminal.
func quiet(c *console) *slog.Logger {
	return slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: slog.LevelError}))
}

// demo is one run.
type demo struct {
	console  *console
	receiver *demoReceiver
	hooks    string // where the receiver listens
	nats     string
	api      *client

	events   []demoEvent
	matched  int // deliveries that the events must come to
	dead     int // of them those to the endpoint that never works
	accepted int
}

// demoEvent is one line of the file.
type demoEvent struct {
	Type        string          `json:"type"`
	ID          string          `json:"id"`
	ResourceIDs []string        `json:"resource_ids"`
	ObjectID    string          `json:"object_id"`
	Changed     []string        `json:"changed"`
	Data        json.RawMessage `json:"data"`
	line        []byte
}

// demoSubscription is one of the handful. wants says independently of Fanfare which events it must get.
type demoSubscription struct {
	name, path string
	body       map[string]any
	wants      func(demoEvent) bool
}

// demoSubscriptions are of several kinds: exact types, wildcards, a resource, and two that misbehave.
func demoSubscriptions() []demoSubscription {
	prefix := func(p string) func(demoEvent) bool {
		return func(e demoEvent) bool { return strings.HasPrefix(e.Type, p) }
	}
	quick := func(delays ...string) map[string]any {
		return map[string]any{"schedule": delays, "max_retries": len(delays)}
	}
	return []demoSubscription{
		{"Everything, to the archive", "/archive",
			map[string]any{"event_types": []string{"*"}},
			func(demoEvent) bool { return true }},
		{"Orders, to the ERP", "/erp",
			map[string]any{"event_types": []string{"order.*"}}, prefix("order.")},
		{"Paid and refunded, to the books", "/books",
			map[string]any{"event_types": []string{"order.paid", "refund.created"}},
			func(e demoEvent) bool { return e.Type == "order.paid" || e.Type == "refund.created" }},
		{"Loyalty, to the app", "/app",
			map[string]any{"event_types": []string{"loyalty.>"}}, prefix("loyalty.")},
		{"New orders of shop 3, to its till", "/till",
			map[string]any{"event_types": []string{"order.created"}, "resource_id": "shop_3"},
			func(e demoEvent) bool { return e.Type == "order.created" && e.ResourceIDs[0] == "shop_3" }},
		{"Customers, to the CRM", "/crm",
			map[string]any{"event_types": []string{"customer.*"}}, prefix("customer.")},
		{"Refunds, to a bank that fails twice", flakyPath,
			map[string]any{"event_types": []string{"refund.created"}, "retry": quick("300ms", "600ms")}, prefix("refund.")},
		{"Closed accounts, to an archive that never works", brokenPath,
			map[string]any{"event_types": []string{"customer.deleted"}, "retry": quick("300ms")}, prefix("customer.deleted")},
	}
}

// run subscribes, publishes, watches and sums up.
func (d *demo) run(ctx context.Context, b banner) error {
	d.nats, d.api = withoutUser(b.at.NATS), newClient(b.at.API, b.adminKey)
	defer d.api.close()
	for line := range bytes.Lines(deploy.DemoEvents) {
		e := demoEvent{line: bytes.TrimSpace(line)}
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("read the demo's events: %w", err)
		}
		d.events = append(d.events, e)
	}
	if err := d.subscribe(ctx); err != nil {
		return err
	}
	bar := progressbar.NewOptions(d.matched, progressbar.OptionSetWriter(d.console.err),
		progressbar.OptionSetDescription("Delivering"), progressbar.OptionShowCount(), progressbar.OptionSetWidth(40),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(d.console.err) }))
	watched := make(chan error, 1)
	ctx, cancel := context.WithTimeoutCause(ctx, demoLimit, fmt.Errorf("the deliveries did not end within %v", demoLimit))
	defer cancel()
	go func() { watched <- d.watch(ctx, bar) }()
	if err := d.publish(ctx); err != nil {
		cancel()
		return errors.Join(err, <-watched)
	}
	if err := <-watched; err != nil {
		return err
	}
	return d.sumUp(ctx)
}

// subscribe creates the subscriptions and works out the expected deliveries.
func (d *demo) subscribe(ctx context.Context) error {
	for _, s := range demoSubscriptions() {
		s.body["name"], s.body["url"] = s.name, d.hooks+s.path
		var made struct {
			Secret string `json:"secret"`
		}
		if err := d.api.do(ctx, "POST /v1/subscriptions?tenant="+demoTenant, s.body, &made); err != nil {
			return err
		}
		if err := d.receiver.expect(s.path, made.Secret); err != nil {
			return fmt.Errorf("the secret of %q: %w", s.name, err)
		}
		n := 0
		for _, e := range d.events {
			if s.wants(e) {
				n++
			}
		}
		d.matched += n
		if s.path == brokenPath {
			d.dead += n
		}
		fmt.Fprintf(d.console.out, "  subscribed: %-49s %v\n", s.name, s.body["event_types"])
	}
	return nil
}

// publish sends a third of the events one by one over HTTP, a third as one array, and a third over NATS.
func (d *demo) publish(ctx context.Context) error {
	third := len(d.events) / 3
	for _, e := range d.events[:third] {
		if err := d.api.do(ctx, "POST /v1/events?tenant="+demoTenant, e.line, nil); err != nil {
			return err
		}
		d.accepted++
	}
	lines := make([][]byte, 0, third)
	for _, e := range d.events[third : 2*third] {
		lines = append(lines, e.line)
	}
	var answer struct {
		Accepted int `json:"accepted"`
	}
	array := append(append([]byte("["), bytes.Join(lines, []byte(","))...), ']')
	if err := d.api.do(ctx, "POST /v1/events?tenant="+demoTenant, array, &answer); err != nil {
		return err
	}
	d.accepted += answer.Accepted
	return d.publishNATS(ctx, d.events[2*third:])
}

// publishNATS publishes as any NATS client can: data as the body, the rest as headers.
func (d *demo) publishNATS(ctx context.Context, events []demoEvent) error {
	nc, err := nats.Connect(d.nats, nats.Name("fanfare demo"))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", d.nats, err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		return err
	}
	for _, e := range events {
		msg := nats.NewMsg("events." + demoTenant + "." + e.Type)
		msg.Data = e.Data
		msg.Header.Set("Nats-Msg-Id", demoTenant+"."+e.ID)
		if len(e.ResourceIDs) > 0 {
			msg.Header.Set("Fanfare-Resource-Ids", strings.Join(e.ResourceIDs, ","))
		}
		if len(e.Changed) > 0 {
			msg.Header.Set("Fanfare-Changed", strings.Join(e.Changed, ","))
		}
		if _, err := js.PublishMsg(ctx, msg); err != nil {
			return fmt.Errorf("publish %s over NATS: %w", e.ID, err)
		}
		d.accepted++
	}
	return nil
}
