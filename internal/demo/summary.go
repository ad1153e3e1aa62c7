package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/fanfarehq/fanfare/internal/client"
)

// state is what the API says of the demo's events.
type state struct {
	events, matched                   int
	delivered, dead, pending, retries int
}

// isSample tells the file's events from those by which Fanfare tells of itself, such as fanfare.delivery.dead:
// who subscribes to everything gets them too.
func isSample(id string) bool { return strings.HasPrefix(id, "demo_") }

// watch moves the bar until all deliveries have ended.
func (d *Demo) watch(ctx context.Context, bar *progressbar.ProgressBar) error {
	for {
		s, err := d.state(ctx)
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if err := bar.Set(min(s.delivered+s.dead, d.matched)); err != nil {
			return fmt.Errorf("show progress: %w", err)
		}
		if s.events == len(d.events) && s.matched == s.delivered+s.dead && s.pending == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// state asks the API.
func (d *Demo) state(ctx context.Context) (s state, err error) {
	type event struct {
		ID      string `json:"id"`
		Matched int    `json:"matched"`
	}
	type delivery struct {
		EventID  string `json:"event_id"`
		State    string `json:"state"`
		Attempts int    `json:"attempts"`
	}
	err = client.All(ctx, d.api, "/v1/deliveries?tenant="+tenant, func(one delivery) {
		switch {
		case !isSample(one.EventID):
			return
		case one.State == "delivered":
			s.delivered++
		case one.State == "dead":
			s.dead++
		default:
			s.pending++
		}
		s.retries += max(one.Attempts-1, 0)
	})
	if err != nil {
		return s, err
	}
	// The events come second: deliveries that ended by the first list were matched before this one.
	err = client.All(ctx, d.api, "/v1/events?tenant="+tenant, func(e event) {
		if isSample(e.ID) {
			s.events++
			s.matched += e.Matched
		}
	})
	return s, err
}

// sumUp prints the numbers, ours beside those of the API and of the receiver, and fails if they differ.
func (d *Demo) sumUp(ctx context.Context) error {
	s, err := d.state(ctx)
	if err != nil {
		return err
	}
	got := d.receiver.counts()
	rows := []struct {
		what              string
		expected, counted int
		by                string
	}{
		{"accepted", len(d.events), d.accepted, "answers 202 and PubAcks"},
		{"in the ledger", len(d.events), s.events, "GET /v1/events"},
		{"matched", d.matched, s.matched, "GET /v1/events"},
		{"delivered", d.matched - d.dead, s.delivered, "GET /v1/deliveries"},
		{"  taken by the receiver", d.matched - d.dead, got.taken, "the receiver"},
		{"  of them twice", 0, got.doubles, "the receiver"},
		{"retried", got.refused - d.dead, s.retries, "attempts after the first"},
		{"dead", d.dead, s.dead, "GET /v1/deliveries"},
		{"wrong signatures", 0, got.invalid, "the receiver"},
	}
	fmt.Fprintln(d.console.Out)
	w := tabwriter.NewWriter(d.console.Out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "what\texpected\tcounted\tby")
	wrong := 0
	for _, r := range rows {
		mark := ""
		if r.expected != r.counted {
			mark = "  <- differs"
			wrong++
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s%s\n", r.what, r.expected, r.counted, r.by, mark)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if wrong > 0 {
		return errors.New("the numbers do not add up")
	}
	fmt.Fprintln(d.console.Out, "\nIt adds up: every match was delivered or is a dead letter, and each signature was valid.")
	return nil
}
