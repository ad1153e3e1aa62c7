package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// topologyCmd is about the streams and consumers. Only `apply` and `fanfare all` change them.
type topologyCmd struct {
	Print topologyPrintCmd `cmd:"" help:"Print the streams and consumers that the stages need."`
	Apply topologyApplyCmd `cmd:"" help:"Create missing streams and consumers in NATS and update those that differ; without --shrink nothing becomes smaller."`
	Check topologyCheckCmd `cmd:"" help:"Fail if something in NATS is missing or differs."`
}

type topologyPrintCmd struct {
	JSON bool `name:"json" help:"Print JSON, as in deploy/topology.json."`
}

// Run prints what the settings ask for; it needs no broker.
func (cmd topologyPrintCmd) Run(c *terminal.Terminal) error {
	s, err := readSettings()
	if err != nil {
		return err
	}
	if cmd.JSON {
		return writeTopologyJSON(c, inboxes(s))
	}
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STREAM\tSUBJECTS\tKEPT\tAT MOST\tCONSUMERS\tHOLDS")
	for _, in := range inboxes(s) {
		var consumers []string
		for _, consumer := range in.Consumers {
			consumers = append(consumers, consumer.Durable)
		}
		kept := "until trimmed"
		if in.Stream.MaxAge > 0 {
			kept = in.Stream.MaxAge.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d MiB\t%s\t%s\n", in.Stream.Name, strings.Join(in.Stream.Subjects, ","), kept,
			in.Stream.MaxBytes>>20, strings.Join(consumers, ","), in.Stream.Description)
	}
	return w.Flush()
}

// topologyStream is one stream with its consumers, in JetStream's own JSON.
type topologyStream struct {
	Stream    natsjs.StreamConfig     `json:"stream"`
	Consumers []natsjs.ConsumerConfig `json:"consumers"`
}

func writeTopologyJSON(c *terminal.Terminal, all []jetstream.Inbox) error {
	page := make([]topologyStream, len(all))
	for i, in := range all {
		page[i] = topologyStream{in.Stream, in.Consumers}
	}
	e := json.NewEncoder(c.Out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(page)
}

type topologyApplyCmd struct {
	Shrink   bool `help:"Also lower replicas and bounds; what exceeds a lower bound is deleted, the oldest first."`
	Embedded bool `help:"Apply to the NATS of a fanfare all that runs with FANFARE_DATA_DIR, instead of FANFARE_NATS_URL."`
}

// Run changes NATS, or nothing at all if a stream would shrink unasked.
func (cmd topologyApplyCmd) Run(ctx context.Context, c *terminal.Terminal) error {
	return withTopology(ctx, c, cmd.target, func(ctx context.Context, at target) error {
		if !cmd.Shrink {
			if err := refuseShrinking(ctx, at); err != nil {
				return err
			}
		}
		if err := jetstream.Apply(ctx, at.js, inboxes(at.s)...); err != nil {
			return err
		}
		return at.report(c, "applied")
	})
}

// target makes the operator say where streams are changed.
func (cmd topologyApplyCmd) target(s *settings) error {
	switch {
	case cmd.Embedded:
		s.nats.URL = ""
		return nil
	case s.nats.URL == "":
		return errors.New("FANFARE_NATS_URL is not set: set it, or say --embedded for the NATS of a fanfare all that runs with FANFARE_DATA_DIR")
	default:
		return nil
	}
}

// refuseShrinking returns an error that lists the streams which would hold less.
func refuseShrinking(ctx context.Context, at target) error {
	all, err := jetstream.Differences(ctx, at.js, inboxes(at.s)...)
	if err != nil {
		return err
	}
	var smaller []string
	for _, d := range all {
		if d.Shrinks() {
			smaller = append(smaller, d.String())
		}
	}
	if len(smaller) == 0 {
		return nil
	}
	return fmt.Errorf("nothing was applied: %s --shrink", strings.Join(smaller, "; "))
}

type topologyCheckCmd struct{}

// Run changes nothing.
func (topologyCheckCmd) Run(ctx context.Context, c *terminal.Terminal) error {
	anywhere := func(*settings) error { return nil }
	return withTopology(ctx, c, anywhere, func(ctx context.Context, at target) error {
		if err := jetstream.Check(ctx, at.js, inboxes(at.s)...); err != nil {
			return err
		}
		return at.report(c, "as it should be")
	})
}

// target is the NATS whose streams are meant.
type target struct {
	s  *settings
	nc *nats.Conn
	js natsjs.JetStream
}

// report says which streams were changed, and where.
func (t target) report(c *terminal.Terminal, done string) error {
	for _, in := range inboxes(t.s) {
		if _, err := fmt.Fprintf(c.Out, "%s %s at %s (NATS %s)\n", in.Stream.Name, done, maskURL(t.nc.ConnectedUrl()), t.nc.ConnectedServerVersion()); err != nil {
			return err
		}
	}
	return nil
}

// withTopology does something with all streams and consumers, and then says whether they are durable. choose may change which
// NATS is meant.
func withTopology(ctx context.Context, c *terminal.Terminal, choose func(*settings) error, do func(context.Context, target) error) error {
	s, err := readSettings()
	if err == nil {
		err = choose(s)
	}
	if err != nil {
		return err
	}
	nc, js, err := connectForTool(ctx, s)
	if err != nil {
		return err
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := jetstream.AwaitUsable(ctx, nc, js, func(error) {}); err != nil {
		return err
	}
	if err := do(ctx, target{s, nc, js}); err != nil {
		return err
	}
	synced, detail, err := jetstream.Durability(ctx, nc, js, inboxes(s)...)
	if err != nil {
		return fmt.Errorf("ask NATS whether it syncs: %w", err)
	}
	if !synced {
		fmt.Fprintf(c.Err, "durability: degraded: %s\n", detail)
	}
	return nil
}
