package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// topologyCmd is about the streams and consumers. Only `apply` and `fanfare all` change them.
type topologyCmd struct {
	Print topologyPrintCmd `cmd:"" help:"Print the streams and consumers that the stages need."`
	Apply topologyApplyCmd `cmd:"" help:"Create what is missing in NATS and update what differs; nothing is deleted."`
	Check topologyCheckCmd `cmd:"" help:"Fail if something in NATS is missing or differs."`
}

type topologyPrintCmd struct {
	JSON bool `name:"json" help:"Print JSON, as in deploy/topology.json."`
}

// Run prints what the settings ask for; it needs no broker.
func (cmd topologyPrintCmd) Run(c *console) error {
	s, err := readSettings()
	if err != nil {
		return err
	}
	if cmd.JSON {
		return writeTopologyJSON(c, inboxes(s))
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
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

func writeTopologyJSON(c *console, all []jetstream.Inbox) error {
	page := make([]topologyStream, len(all))
	for i, in := range all {
		page[i] = topologyStream(in)
	}
	e := json.NewEncoder(c.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(page)
}

type topologyApplyCmd struct{}

// Run changes NATS.
func (topologyApplyCmd) Run(ctx context.Context, c *console) error {
	return withTopology(ctx, c, "applied", jetstream.Apply)
}

type topologyCheckCmd struct{}

// Run changes nothing.
func (topologyCheckCmd) Run(ctx context.Context, c *console) error {
	return withTopology(ctx, c, "as it should be", jetstream.Check)
}

// withTopology does something with all streams and consumers and says so.
func withTopology(ctx context.Context, c *console, done string,
	do func(context.Context, natsjs.JetStream, ...jetstream.Inbox) error) error {
	s, err := readSettings()
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
	if err := do(ctx, js, inboxes(s)...); err != nil {
		return err
	}
	for _, in := range inboxes(s) {
		fmt.Fprintf(c.out, "%s %s\n", in.Stream.Name, done)
	}
	synced, detail, err := jetstream.Durability(ctx, nc, js)
	if err != nil {
		return fmt.Errorf("ask NATS whether it syncs: %w", err)
	}
	if !synced {
		fmt.Fprintf(c.err, "durability: degraded: %s\n", detail)
	}
	return nil
}
