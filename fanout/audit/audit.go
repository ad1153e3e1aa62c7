package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Auditor proves that nothing is lost: that each event of the stream is in the ledger, and that each match has a
// delivery which ended or is pending. It names gaps, and may mend them.
type Auditor struct {
	Deps
	store *auditStore
}

// Deps are what an Auditor works with.
type Deps struct {
	JetStream natsjs.JetStream
	DB        *sql.DB
	Reader    *fanout.Reader
	Ledger    *fanout.Ledger
	Rules     *fanout.Rules
	Directory *subscriptions.Directory
	Bytes     fanout.Bytes
	Books     *history.Books
	Outbox    deliver.Sender // nil where nothing is to be mended
	Order     fanout.Queue   // nil where nothing is to be mended
	// AttemptsSince says from when on attempts are kept; nil: all are.
	AttemptsSince func() time.Time
	Logger        *slog.Logger
}

// NewAuditor makes an Auditor.
func NewAuditor(deps Deps) *Auditor {
	return &Auditor{Deps: deps, store: &auditStore{deps.DB}}
}

// The kinds of gaps, beside those of deliver.
const (
	gapNoRow    history.Kind = "event_not_in_ledger" // in the stream, and fanned out to nobody's knowledge
	gapNoBytes  history.Kind = "event_not_in_stream" // in the ledger, and gone from a stream that reaches further back
	gapMissing  history.Kind = "delivery_missing"    // matched, and neither ended nor pending
	gapNeedless history.Kind = "delivery_unmatched"  // more deliveries than the event matched
)

const (
	// maxGaps bounds what one audit names of each kind.
	maxGaps = 1000
	// auditWindow is how many messages of the stream are held against the ledger at once.
	auditWindow = 1000
)

// Audit is what an audit of a span found.
type Audit struct {
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until"`
	Accepted  int64     `json:"accepted" doc:"Events of the span, wherever they are known"`
	InStream  int64     `json:"in_stream" doc:"Fewer than accepted once the stream has let go of the oldest"`
	InLedger  int64     `json:"in_ledger" doc:"Fewer than accepted while some wait to be fanned out"`
	Matched   int64     `json:"matched" doc:"Deliveries that there must be: what the events matched, and generations after the first"`
	Delivered int64     `json:"delivered"`
	Dead      int64     `json:"dead"`
	Cancelled int64     `json:"cancelled"`
	Pending   int64     `json:"pending" doc:"Waiting for a time or an act, or on their way"`
	Held      int64     `json:"held" doc:"Of the pending ones, those that wait for an act"`
	Balanced  bool      `json:"balanced" doc:"Whether nothing is missing and nothing is there that should not be"`
	Gaps      []Gap     `json:"gaps" nullable:"false" doc:"What does not add up, at most 1000 of each kind"`
	// Mended is how many of the gaps were made good.
	Mended int `json:"-"`
}

// Gap is something that does not add up.
type Gap struct {
	Kind           history.Kind `json:"kind" enum:"event_not_in_ledger,event_not_in_stream,delivery_missing,delivery_unmatched,delivery_duplicated,attempt_duplicated,attempt_missing,held_without_a_pause"`
	EventID        string       `json:"event_id"`
	SubscriptionID *uuid.UUID   `json:"subscription_id" nullable:"true" doc:"Null where the gap is the event's, or nobody can tell the subscription any more"`
	Detail         string       `json:"detail,omitempty" doc:"What else can be said: of an event or subscription without a name, or why bytes are gone"`

	mend func(context.Context) error
	lost bool // mend only writes down that the bytes are gone
}

// Audit looks at the events that were accepted in a span, by whole milliseconds.
func (a *Auditor) Audit(ctx context.Context, span ledger.Span) (*Audit, error) {
	span = ledger.Span{Since: span.Since.UTC().Truncate(time.Millisecond), Until: span.Until.UTC().Truncate(time.Millisecond), Tenant: span.Tenant}
	r := &Audit{Since: span.Since, Until: span.Until, Gaps: []Gap{}}
	if _, err := a.Directory.Fresh(ctx); err != nil {
		return nil, err
	}
	if err := a.holdStreamAgainstLedger(ctx, span, r); err != nil {
		return nil, fmt.Errorf("audit events: %w", err)
	}
	live, err := a.missing(ctx, span, r)
	if err != nil {
		return nil, fmt.Errorf("audit deliveries: %w", err)
	}
	var since time.Time
	if a.AttemptsSince != nil {
		since = a.AttemptsSince()
	}
	faults, err := a.Books.Faults(ctx, span, since, maxGaps)
	if err != nil {
		return nil, fmt.Errorf("audit deliveries: %w", err)
	}
	for _, f := range faults {
		r.Gaps = append(r.Gaps, Gap{Kind: f.Kind, EventID: f.EventID, SubscriptionID: &f.Subscription,
			mend: func(ctx context.Context) error { return a.Books.Mend(ctx, f) }})
	}
	tally, err := a.Books.Tally(ctx, span)
	if err != nil {
		return nil, fmt.Errorf("audit deliveries: %w", err)
	}
	matched, err := a.store.matched(ctx, span)
	if err != nil {
		return nil, fmt.Errorf("audit deliveries: %w", err)
	}
	r.Matched, r.Delivered, r.Dead, r.Cancelled = matched+tally.Later, tally.Delivered, tally.Dead, tally.Cancelled
	r.Pending, r.Held = tally.Pending+live, tally.Held
	// What ended between one question and the next is no gap, so the sums are not compared: each event was.
	r.Balanced = len(r.Gaps) == 0
	return r, nil
}

// Mend repairs the gaps that an audit found, as far as possible: it sends missing deliveries. It returns how many it could not
// repair.
func (a *Auditor) Mend(ctx context.Context, r *Audit) (left int, err error) {
	var errs []error
	for _, g := range r.Gaps {
		if g.mend == nil {
			left++
			continue
		}
		if err := g.mend(ctx); err != nil {
			left++
			errs = append(errs, fmt.Errorf("mend %s of event %s: %w", g.Kind, g.EventID, err))
			if ctx.Err() != nil || len(errs) == 10 { // It is not this gap.
				break
			}
			continue
		}
		r.Mended++
	}
	return left, errors.Join(errs...)
}

// missing finds the deliveries that are neither in the ledger nor on their way, and returns how many are on
// their way.
func (a *Auditor) missing(ctx context.Context, span ledger.Span, r *Audit) (onTheirWay int64, err error) {
	suspects, err := a.Books.Shortages(ctx, span, maxGaps)
	if err != nil || len(suspects) == 0 {
		return 0, err
	}
	// What is in no task now was acknowledged before, so its outcome was on disk, and so will be in the ledger
	// when that has caught up.
	live, err := deliver.Live(ctx, a.JetStream)
	if err != nil {
		return 0, err
	}
	if err := ledger.CaughtUp(ctx, a.JetStream); err != nil {
		return 0, err
	}
	for _, s := range suspects {
		got, err := a.Books.Receivers(ctx, s.EventUID)
		if err != nil {
			return 0, err
		}
		s.Found = len(got)
		for id := range live[s.EventUID] {
			if !got[id] {
				got[id] = true
				onTheirWay++
			}
		}
		switch {
		case len(got) < s.Matched:
			if err := a.nameMissing(ctx, s, got, r); err != nil {
				return 0, err
			}
		case len(got) > s.Matched:
			r.Gaps = append(r.Gaps, Gap{Kind: gapNeedless, EventID: s.EventID,
				mend: func(ctx context.Context) error { return a.store.setMatched(ctx, s.EventUID, len(got)) }})
		}
	}
	return onTheirWay, nil
}

// nameMissing finds out which subscriptions lack a delivery: those that match and were there when the event came.
// Where that cannot be told any more, the gap has no name, and cannot be mended.
func (a *Auditor) nameMissing(ctx context.Context, s history.Shortage, got map[uuid.UUID]bool, r *Audit) error {
	lacking := s.Matched - len(got)
	row, err := a.store.row(ctx, s.EventUID)
	if err != nil {
		return err
	}
	e, err := fanout.ReadEvent(ctx, a.Reader, a.Bytes, row)
	gone := errors.Is(err, event.ErrGone)
	if err != nil && !gone {
		return err
	}
	if gone {
		e = &event.Event{Tenant: row.Tenant, ID: row.ID, Type: row.Type, Time: row.Time, Data: []byte("null")}
	}
	known, err := a.Books.Known(ctx, s.EventUID)
	if err != nil {
		return err
	}
	matched, revision := a.Directory.Match(e)
	for _, sub := range candidates(matched, known, row.AcceptedAt) {
		if lacking == 0 || got[sub.ID] {
			continue
		}
		lacking--
		g := Gap{Kind: gapMissing, EventID: s.EventID, SubscriptionID: &sub.ID}
		if gone {
			g.lost = true
			g.mend = func(ctx context.Context) error { return a.Books.GiveUp(ctx, s, row.Type, sub.ID) }
		} else if a.Outbox != nil {
			g.mend = func(ctx context.Context) error {
				return a.send(ctx, e, a.receivers(e, []*subscriptions.Subscription{sub}, revision))
			}
		}
		r.Gaps = append(r.Gaps, g)
	}
	detail := fmt.Sprintf("%d matched, %d have a delivery; who lacks one was deleted or changed since", s.Matched, len(got))
	for range lacking {
		r.Gaps = append(r.Gaps, Gap{Kind: gapMissing, EventID: s.EventID, Detail: detail})
	}
	return nil
}

// candidates are the subscriptions that may lack a delivery of an event, the likeliest first: those that have none, then
// those that had it sent again. The broker's clock may be behind by a minute; but deliveries to a subscription that
// came after the event is its past, and lacks nothing.
func candidates(matched []*subscriptions.Subscription, known map[uuid.UUID]bool, acceptedAt time.Time) []*subscriptions.Subscription {
	var first, second []*subscriptions.Subscription
	for _, sub := range matched {
		switch {
		case !known[sub.ID] && !sub.CreatedAt.After(acceptedAt.Add(time.Minute)):
			first = append(first, sub)
		case known[sub.ID] && !sub.CreatedAt.After(acceptedAt):
			second = append(second, sub)
		}
	}
	return append(first, second...)
}

// refusal judges an event as fan-out would.
func (a *Auditor) refusal(ctx context.Context, e *event.Event, w event.Wire) (*event.Refusal, error) {
	if refusal := a.Rules.Admit(w, e); refusal != nil || e.Checked {
		return refusal, nil
	}
	return a.Rules.Check(ctx, e)
}

// refan fans an event out that the ledger does not have, as fan-out would: deliver skips deliveries that were made.
func (a *Auditor) refan(ctx context.Context, e *event.Event, w event.Wire) error {
	refusal, err := a.refusal(ctx, e, w)
	if err != nil {
		return err
	}
	if refusal != nil {
		return a.Ledger.Quarantine(ctx, w, refusal)
	}
	got, err := a.Books.Receivers(ctx, e.UID)
	if err != nil {
		return err
	}
	known, err := a.Books.Known(ctx, e.UID)
	if err != nil {
		return err
	}
	matched, revision := a.Directory.Match(e)
	to := a.receivers(e, slices.DeleteFunc(matched, func(sub *subscriptions.Subscription) bool { return known[sub.ID] }), revision)
	if err := a.send(ctx, e, to); err != nil {
		return err
	}
	return a.Ledger.Record(ctx, e, len(got)+to.Count(), revision)
}

// receivers sorts subscriptions out that an event goes to.
func (a *Auditor) receivers(e *event.Event, list []*subscriptions.Subscription, revision int64) fanout.Receivers {
	matched := subscriptions.Received{Revision: revision}
	for _, sub := range list {
		if key, ok := a.Directory.OrderingKey(e, sub); ok {
			matched.Ordered = append(matched.Ordered, subscriptions.InOrder{ID: sub.ID, Key: key})
		} else {
			matched.IDs = append(matched.IDs, sub.ID)
		}
	}
	return fanout.ReceiversOf(e, matched)
}

// send sends missing deliveries; deliver skips those that were made.
func (a *Auditor) send(ctx context.Context, e *event.Event, to fanout.Receivers) error {
	if len(to.Targets) > 0 {
		if err := a.Outbox.Send(ctx, fanout.TasksOf(e, to.Targets, deliver.Task{Revision: to.Revision, Suspect: true, Counted: true})...); err != nil {
			return err
		}
	}
	if len(to.Turns) == 0 {
		return nil
	}
	return a.Order.Queue(ctx, e, to.Turns)
}
