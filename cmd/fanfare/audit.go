package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout/audit"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/terminal"
)

// auditCmd proves that nothing is lost. Its exit code is 1 if something is.
type auditCmd struct {
	Repair bool          `help:"Mend each gap: send missing deliveries, and correct the ledger."`
	Span   time.Duration `name:"span" default:"24h" help:"How far back to look."`
	JSON   bool          `name:"json" help:"Print JSON."`
}

// Run may be repeated, and may run while Fanfare does.
func (cmd auditCmd) Run(ctx context.Context, c *terminal.Terminal) (err error) {
	if cmd.Span <= 0 {
		return fmt.Errorf("--span must be more than 0, not %s", cmd.Span)
	}
	s, err := readSettings()
	if err != nil {
		return err
	}
	var undo cleanup
	defer func() { err = errors.Join(err, undo.run()) }()
	back, err := openForTool(ctx, s, &undo)
	if err != nil {
		return err
	}
	sh, err := share(ctx, s, ground{backing: back, log: s.log.logger(c.Err), metrics: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	publisher, err := jetstream.NewPublisher(sh.js, jetstream.PublisherConfig{})
	if err != nil {
		return err
	}
	undo.add("publishing", publisher.Close)
	auditor := sh.auditor(sh.outbox(publisher))
	now := time.Now()
	span := ledger.Span{Since: now.Add(-cmd.Span), Until: now}
	found, err := auditor.Audit(ctx, span)
	if err != nil {
		return err
	}
	if err := cmd.print(c, found); err != nil {
		return err
	}
	if cmd.Repair && !found.Balanced {
		left, err := auditor.Mend(ctx, found)
		fmt.Fprintf(c.Err, "%d gaps mended, %d cannot be\n", found.Mended, left)
		if err != nil {
			return err
		}
		if found, err = auditor.Audit(ctx, span); err != nil {
			return err
		}
		if err := cmd.print(c, found); err != nil {
			return err
		}
	}
	if !found.Balanced {
		return fmt.Errorf("%d gaps", len(found.Gaps))
	}
	return nil
}

func (cmd auditCmd) print(c *terminal.Terminal, a *audit.Audit) error {
	if cmd.JSON {
		e := json.NewEncoder(c.Out)
		e.SetIndent("", "  ")
		return e.Encode(a)
	}
	fmt.Fprintf(c.Out, "From %s to %s\n", a.Since.Format(time.RFC3339), a.Until.Format(time.RFC3339))
	w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, line := range []struct {
		what string
		n    int64
	}{
		{"events accepted", a.Accepted}, {"in the stream", a.InStream}, {"in the ledger", a.InLedger},
		{"deliveries matched", a.Matched}, {"delivered", a.Delivered}, {"dead", a.Dead}, {"cancelled", a.Cancelled},
		{"pending", a.Pending}, {"of these held", a.Held},
	} {
		fmt.Fprintf(w, "%s\t%d\t\n", line.what, line.n)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, g := range a.Gaps {
		subscription := "-"
		if g.SubscriptionID != nil {
			subscription = g.SubscriptionID.String()
		}
		fmt.Fprintf(c.Out, "GAP %s: event %s, subscription %s  %s\n", g.Kind, cmp.Or(g.EventID, "-"), subscription, g.Detail)
	}
	if a.Balanced {
		fmt.Fprintln(c.Out, "balanced")
	}
	return nil
}
