package replay

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// kind says what a replay does.
type kind string

const (
	kindReplay kind = "replay" // sends the past again
	kindRetry  kind = "retry"  // retries the deliveries of a filter
	kindCancel kind = "cancel" // cancels the deliveries of a filter
)

// unexpectedCount is why a job ends whose deliveries are not as many as it was told to expect.
const unexpectedCount = "unexpected_count"

// unexpected reports whether a job finds a tenth more or less deliveries than it was told to expect; $3 are the last ones found.
const unexpected = `coalesce(abs(matched + $3 - expect) * 10 > expect, false)`

// filter is what a job or a replay of dead letters asks of deliveries, beside tenant, subscription, types and span.
type filter struct {
	Reasons  []outcome.Reason     `json:"reasons,omitempty"`
	Statuses []history.HTTPStatus `json:"statuses,omitempty"`
	States   []string             `json:"states,omitempty"`

	Objects   []string `json:"objects,omitempty"`
	Resources []string `json:"resources,omitempty"`
}

// value writes the filter for Postgres.
func (f filter) value() (string, error) {
	raw, err := json.Marshal(f)
	return string(raw), err
}

// jobMost is how many deliveries the next step of a job finds: those of a fortieth of a second, so that nothing is written
// ahead.
func (r *replay) jobMost() int {
	if r.state == replayCounting {
		return countMost
	}
	return min(max(r.rate/40, 1), stretchMost)
}

// page is the next part of a job: ended deliveries to be made again, and pending ones to be hurried or cancelled.
type page struct {
	ended   []ledger.Again
	pending []uuid.UUID
	reach
}

// jobStep counts or does the next part of a job and returns how long to wait.
func (r *Replayer) jobStep(ctx context.Context, p *replay, at *course) (time.Duration, error) {
	of, err := r.page(ctx, p)
	if err != nil {
		return 0, err
	}
	if err := r.putInOrder(ctx, of.ended); err != nil {
		return 0, err
	}
	var wait time.Duration
	if p.state == replayCounting {
		var n int
		if n, err = r.again.Count(ctx, ledger.OnlyListed, of.ended); err == nil {
			err = r.store.count(ctx, p, r.worker, stretch{reach: of.reach}, tally{matched: n + len(of.pending)})
		}
	} else {
		wait, err = r.store.do(ctx, p, r.worker, of, r.again)
	}
	if err == nil && of.last && (p.dryRun || p.state == replayRunning) {
		r.ended(ctx, p, nil)
	}
	if p.place = of.place; of.last {
		at.replay = nil
	}
	return min(wait, replayPoll), err
}

// page reads the next part of a job: what subscriptions can receive that are there and enabled.
func (r *Replayer) page(ctx context.Context, p *replay) (page, error) {
	f := history.Filter{
		Tenant: p.tenant, Subscription: p.subscription.UUID, Types: p.types, Since: p.span.Since, Until: p.span.Until,
		Reasons: p.filter.Reasons, Statuses: p.filter.Statuses, After: p.place, Asc: true, Limit: p.jobMost(),
	}
	if len(p.filter.States) == 1 {
		f.State = p.filter.States[0]
	} else {
		f.States = p.filter.States
	}
	of := page{reach: reach{place: p.place}}
	entries, cut, err := history.NewReader(r.DB, nil).Walk(ctx, f)
	if err != nil {
		return of, err
	}
	switch {
	case cut != uuid.Nil:
		of.place = cut
	case len(entries) == f.Limit:
		of.place = entries[len(entries)-1].ID
	default:
		of.last = true
	}
	for _, e := range entries {
		switch {
		case e.State == outcome.Pending:
			of.pending = append(of.pending, e.ID)
		case r.receives(e.Subscription):
			of.ended = append(of.ended, ledger.Again{
				Tenant: e.Tenant, EventUID: e.EventUID, EventID: e.EventID, EventType: e.EventType, Seq: e.Seq, Subscription: e.Subscription,
				Ended: sql.Null[int]{V: e.Generation, Valid: true}, Place: e.ID,
			})
		}
	}
	return of, nil
}

// receives reports whether a subscription can receive.
func (r *Replayer) receives(id uuid.UUID) bool {
	sub, ok := r.Directory.Get(id)
	return ok && sub.Status != subscriptions.Disabled
}

// do retries or cancels a page and moves the job's place, in one transaction. It returns after how long the next delivery may
// be due.
func (s *replayStore) do(ctx context.Context, p *replay, worker string, of page, with *ledger.Repeater) (time.Duration, error) {
	return s.advance(ctx, p, worker, of.reach, func(ctx context.Context, tx *sql.Tx, pace ledger.Pace) (int, error) {
		if p.kind == kindCancel {
			return with.CancelAll(ctx, tx, of.pending)
		}
		hurried, err := with.HurryAll(ctx, tx, of.pending)
		if err != nil {
			return 0, err
		}
		made, err := with.Send(ctx, tx, ledger.OnlyListed, of.ended, pace)
		return hurried + made, err
	})
}
