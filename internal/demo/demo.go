package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/schollz/progressbar/v3"

	"github.com/fanfarehq/fanfare/deploy"
	"github.com/fanfarehq/fanfare/internal/client"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

const (
	tenant = "demo"
	limit  = time.Minute // for all deliveries to end
)

// Demo is one run.
type Demo struct {
	console  *terminal.Terminal
	receiver *receiver
	hooks    string // where the receiver listens
	nats     string
	api      *client.Client

	events   []sample
	matched  int // deliveries that the events must come to
	dead     int // of them those to the endpoint that never works
	accepted int
}

// sample is one line of the file.
type sample struct {
	Type        string          `json:"type"`
	ID          string          `json:"id"`
	ResourceIDs []string        `json:"resource_ids"`
	ObjectID    string          `json:"object_id"`
	Changed     []string        `json:"changed"`
	Data        json.RawMessage `json:"data"`
	line        []byte
}

// subscription is one of the handful. wants says independently of Fanfare which events it must get.
type subscription struct {
	name, path string
	body       map[string]any
	wants      func(sample) bool
}

// subscriptions are of several kinds: exact types, wildcards, a resource, and two that misbehave.
func subscriptions() []subscription {
	prefix := func(p string) func(sample) bool {
		return func(e sample) bool { return strings.HasPrefix(e.Type, p) }
	}
	quick := func(delays ...string) map[string]any {
		return map[string]any{"schedule": delays, "max_retries": len(delays)}
	}
	return []subscription{
		{"Everything, to the archive", "/archive",
			map[string]any{"event_types": []string{"*"}},
			func(sample) bool { return true }},
		{"Orders, to the ERP", "/erp",
			map[string]any{"event_types": []string{"order.*"}}, prefix("order.")},
		{"Paid and refunded, to the books", "/books",
			map[string]any{"event_types": []string{"order.paid", "refund.created"}},
			func(e sample) bool { return e.Type == "order.paid" || e.Type == "refund.created" }},
		{"Loyalty, to the app", "/app",
			map[string]any{"event_types": []string{"loyalty.>"}}, prefix("loyalty.")},
		{"New orders of shop 3, to its till", "/till",
			map[string]any{"event_types": []string{"order.created"}, "resource_id": "shop_3"},
			func(e sample) bool { return e.Type == "order.created" && e.ResourceIDs[0] == "shop_3" }},
		{"Customers, to the CRM", "/crm",
			map[string]any{"event_types": []string{"customer.*"}}, prefix("customer.")},
		{"Refunds, to a bank that fails twice", flakyPath,
			map[string]any{"event_types": []string{"refund.created"}, "retry": quick("300ms", "600ms")}, prefix("refund.")},
		{"Closed accounts, to an archive that never works", brokenPath,
			map[string]any{"event_types": []string{"customer.deleted"}, "retry": quick("300ms")}, prefix("customer.deleted")},
	}
}

// Server says where a Fanfare that runs can be reached.
type Server struct {
	API  string // http://host:port
	Key  string // the admin key
	NATS string
}

// New makes a Demo whose receivers listen at hooks, http://host:port.
func New(c *terminal.Terminal, hooks string) *Demo {
	return &Demo{console: c, receiver: newReceiver(), hooks: hooks}
}

// Receivers answers at hooks.
func (d *Demo) Receivers() http.Handler { return d.receiver }

// Run subscribes, publishes, watches and sums up; it fails unless the numbers add up.
func (d *Demo) Run(ctx context.Context, at Server) error {
	d.nats, d.api = at.NATS, client.New(at.API, at.Key)
	defer d.api.Close()
	for line := range bytes.Lines(deploy.DemoEvents) {
		e := sample{line: bytes.TrimSpace(line)}
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("read the demo's events: %w", err)
		}
		d.events = append(d.events, e)
	}
	if err := d.subscribe(ctx); err != nil {
		return err
	}
	bar := progressbar.NewOptions(d.matched, progressbar.OptionSetWriter(d.console.Err),
		progressbar.OptionSetDescription("Delivering"), progressbar.OptionShowCount(), progressbar.OptionSetWidth(40),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(d.console.Err) }))
	watched := make(chan error, 1)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the deliveries did not end within %v", limit))
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
func (d *Demo) subscribe(ctx context.Context) error {
	for _, s := range subscriptions() {
		s.body["name"], s.body["url"] = s.name, d.hooks+s.path
		var made struct {
			Secret string `json:"secret"`
		}
		if err := d.api.Do(ctx, "POST /v1/subscriptions?tenant="+tenant, s.body, &made); err != nil {
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
		fmt.Fprintf(d.console.Out, "  subscribed: %-49s %v\n", s.name, s.body["event_types"])
	}
	return nil
}

// publish sends a third of the events one by one over HTTP, a third as one array, and a third over NATS.
func (d *Demo) publish(ctx context.Context) error {
	third := len(d.events) / 3
	for _, e := range d.events[:third] {
		if err := d.api.Do(ctx, "POST /v1/events?tenant="+tenant, e.line, nil); err != nil {
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
	if err := d.api.Do(ctx, "POST /v1/events?tenant="+tenant, array, &answer); err != nil {
		return err
	}
	d.accepted += answer.Accepted
	return d.publishNATS(ctx, d.events[2*third:])
}

// publishNATS publishes as any NATS client can: data as the body, the rest as headers.
func (d *Demo) publishNATS(ctx context.Context, events []sample) error {
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
		msg := nats.NewMsg("events." + tenant + "." + e.Type)
		msg.Data = e.Data
		msg.Header.Set("Nats-Msg-Id", tenant+"."+e.ID)
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
