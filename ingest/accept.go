package ingest

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/crashpoint"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// accept takes the items as far as they go: into the stream, or to a problem. It returns when each has its
// answer, which is no later than the context ends.
func (in *Ingest) accept(ctx context.Context, items []*item) {
	live := in.meter(ctx, alive(items))
	if len(live) == 0 {
		return
	}
	// What was declared, archived or deleted before this request came is known from here on.
	if err := in.fresh(ctx); err != nil {
		in.unstored(live, err)
		return
	}
	for _, it := range live {
		if err := in.judge(ctx, it); err != nil {
			in.unjudged(live, err)
			return
		}
	}
	live = in.claim(ctx, alive(items))
	in.send(ctx, live)
	for _, it := range items {
		if it.first == nil {
			continue
		}
		// The same event, named twice in one request: stored once, so the second is a duplicate if the first
		// is anything good.
		it.problem, it.reason, it.unstored, it.duplicate = it.first.problem, it.first.reason, it.first.unstored, true
		if it.reason == reasonConflict {
			it.conflict()
		}
	}
}

// fresh makes the directory know what changed before now.
func (in *Ingest) fresh(ctx context.Context) error {
	_, err := within(ctx, func() (int64, error) { return in.dir.Fresh(ctx) })
	return err
}

// alive returns the items that have no answer yet.
func alive(items []*item) []*item {
	live := make([]*item, 0, len(items))
	for _, it := range items {
		if it.problem == nil && it.first == nil && !it.duplicate {
			live = append(live, it)
		}
	}
	return live
}

// judge checks an event by the rules and fills in what its sender left open. The error is the context's.
func (in *Ingest) judge(ctx context.Context, it *item) error {
	e := &it.event
	if e.Time.IsZero() {
		e.Time = in.now().UTC()
	}
	if e.ID == "" {
		e.ID, e.Made = uuid.Must(uuid.NewV7()).String(), true
	}
	if it.unread && e.JSON() {
		it.refuse(in.rules.CheckData(e.Data))
	} else {
		it.refuse(in.rules.CheckSize(e.Data))
	}
	if it.problem == nil {
		it.refuse(in.reserved(e))
	}
	if it.problem == nil {
		refusal, err := in.rules.Check(ctx, e)
		if err != nil {
			return err
		}
		it.refuse(refusal)
	}
	e.Checked = true
	return nil
}

// unjudged answers that the time was over before all events were judged: none was stored.
func (in *Ingest) unjudged(items []*item, err error) {
	in.complain(err)
	for _, it := range items {
		it.unstored, it.reason = true, reasonUnstored
		it.problem = problem(http.StatusServiceUnavailable, "the events could not be judged by their schemas in time; nothing was stored: send them again later")
	}
}

// reserved refuses events of the types that are Fanfare's own. Only the test event is sent from here.
func (in *Ingest) reserved(e *event.Event) *event.Refusal {
	if e.Test && e.Type == testType {
		in.rules.Marks().Sign(e)
	}
	return in.rules.Marks().Check(e)
}

// claim settles which of the events are new and returns those that are to be sent. Ids that Fanfare made are.
func (in *Ingest) claim(ctx context.Context, live []*item) []*item {
	type content struct {
		key  event.Key
		hash [32]byte
	}
	var asked claims
	var given []*item
	firsts := make(map[content]*item)
	for _, it := range live {
		if it.event.Made {
			continue
		}
		c := content{it.event.Key(), it.event.Hash()}
		if first := firsts[c]; first != nil {
			it.first = first
			continue
		}
		firsts[c] = it
		given = append(given, it)
		asked = append(asked, &claim{key: c.key, hash: c.hash})
	}
	if len(asked) == 0 {
		return live
	}
	verdicts, err := within(ctx, func() ([]verdict, error) { return in.keys.judge(ctx, asked) })
	if err != nil {
		in.unstored(given, err)
		return alive(live)
	}
	for i, v := range verdicts {
		switch v {
		case publish:
		case known:
			given[i].duplicate = true
		case conflict:
			given[i].conflict()
		}
	}
	return alive(live)
}

// send puts the events on disk, in their order.
func (in *Ingest) send(ctx context.Context, live []*item) {
	if len(live) == 0 {
		return
	}
	events := make([]*event.Event, len(live))
	for i, it := range live {
		events[i] = &it.event
	}
	if err := crashpoint.Reach(crashpoint.IngestClaimed); err != nil {
		in.unstored(live, err)
		return
	}
	all, err := within(ctx, func() ([]fanout.Sent, error) { return fanout.SendAll(ctx, in.to, events), nil })
	if err == nil {
		err = crashpoint.Reach(crashpoint.IngestStored)
	}
	if err != nil {
		in.unstored(live, err)
		return
	}
	for i, sent := range all {
		it := live[i]
		switch {
		case errors.Is(sent.Err, jetstream.ErrTooLarge):
			it.fault(event.TooLarge, "data", "is larger than the broker takes")
		case sent.Err != nil:
			in.unstored(live[i:i+1], sent.Err)
		default:
			it.duplicate, it.event.Seq = sent.Duplicate, sent.Seq
			if sent.Duplicate {
				in.authenticate(ctx, it)
			}
		}
	}
}

// copiesAsked is how often the stream is read before an event counts as another one's: any of the servers that have a copy of
// the stream answers, and the copy of one may have gone astray.
const copiesAsked = 5

// first returns the event of which the stream takes another one for a repeat.
func (in *Ingest) first(ctx context.Context, e *event.Event) (first *event.Event, err error) {
	for range copiesAsked {
		if first, err = in.stored.Read(ctx, e.Seq); err != nil || first.Key() == e.Key() {
			break
		}
	}
	return first, err
}

// authenticate looks whether the message, of which the stream takes an event for a repeat, is of the same event. A
// NATS client can use another tenant's message ids. Then the event is sent with a message id that nobody can know.
func (in *Ingest) authenticate(ctx context.Context, it *item) {
	first, err := within(ctx, func() (*event.Event, error) { return in.first(ctx, &it.event) })
	if err == nil && first.Key() == it.event.Key() {
		if first.Hash() != it.event.Hash() {
			it.conflict()
		}
		return
	}
	if err != nil && !errors.Is(err, fanout.ErrGone) {
		in.unstored([]*item{it}, err)
		return
	}
	in.metrics.forged.Inc()
	in.log.WarnContext(ctx, "message id was used by another publisher, sending the event with a new one",
		"tenant", it.event.Tenant, "event", it.event.ID, "seq", it.event.Seq)
	again, err := within(ctx, func() (fanout.Sent, error) { return fanout.SendRenewed(ctx, in.to, &it.event), nil })
	if err == nil {
		err = again.Err
	}
	if err != nil {
		in.unstored([]*item{it}, err)
		return
	}
	it.duplicate, it.event.Seq = false, again.Seq
}

// unstored answers that it is unknown whether the events were stored: send them again.
func (in *Ingest) unstored(items []*item, err error) {
	in.complain(err)
	for _, it := range items {
		it.unstored, it.reason = true, reasonUnstored
		it.problem = problem(http.StatusServiceUnavailable, unstoredDetail(err))
	}
}

func unstoredDetail(err error) string {
	if errors.Is(err, jetstream.ErrNoRoom) {
		return "too little disk space is left for events (FANFARE_DISK_RESERVE); nothing was stored: send it again later"
	}
	if errors.Is(err, jetstream.ErrFull) {
		return "the storage for events is full (FANFARE_EVENTS_MAX_BYTES, or max_file_store of NATS); nothing was stored: send it again later"
	}
	return "storage did not answer in time; it is unknown whether the event was stored: send it again, with the same id"
}
