package fanout

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// stretch is the next part of a replay.
type stretch struct {
	list  []deliver.Again
	place uuid.UUID
	last  bool
}

// most is how many events or dead letters the next step looks at.
func (r *replay) most() int {
	if r.state == replayCounting {
		return countMost
	}
	return min(max(r.rate/40, min(r.rate, stretchLeast)), stretchMost)
}

// stretch reads the next part.
func (r *Replayer) stretch(ctx context.Context, p *replay, sub *subscriptions.Subscription) (stretch, error) {
	limit := p.most()
	of := stretch{place: p.place}
	if p.only == deliver.OnlyDead {
		list, err := r.again.Dead(ctx, deliver.Dead{
			Span: p.span, Tenant: p.tenant, Subscription: p.subscription.UUID, EventID: p.eventID, Types: p.types, Before: p.createdAt,
		}, p.place, limit)
		if len(list) > 0 {
			of.place = list[len(list)-1].Place
		}
		of.list, of.last = list, len(list) < limit
		return of, err
	}
	rows, err := r.store.events(ctx, p, limit)
	if err != nil {
		return of, err
	}
	if len(rows) > 0 {
		of.place = rows[len(rows)-1].uid
	}
	of.last = len(rows) < limit
	matching, err := r.matching(ctx, p, rows, sub)
	if err != nil {
		return of, err
	}
	for _, row := range matching {
		of.list = append(of.list, deliver.Again{
			Tenant: row.tenant, EventUID: row.uid, EventID: row.id, EventType: row.eventType, Seq: row.seq, Subscription: sub.ID, Place: row.uid,
		})
	}
	return of, nil
}

// matching returns those of the rows whose events match and can be sent. An event is read only where the ledger does not tell
// enough, or where a worker of this process will need its bytes at once: reading is most of what a replay costs.
func (r *Replayer) matching(ctx context.Context, p *replay, rows []recorded, sub *subscriptions.Subscription) ([]recorded, error) {
	remember := p.state == replayRunning && r.Remember != nil
	var first, last uint64 // of those whose bytes are there, and are not needed here
	if !remember {
		var err error
		if first, last, err = r.Reader.ends(ctx); err != nil {
			return nil, err
		}
	}
	candidate := r.Directory.Candidate(sub)
	sure := make(map[uuid.UUID]bool, len(rows))
	var unread []recorded
	rows = slices.DeleteFunc(rows, func(row recorded) bool {
		may, does := true, false
		if row.untargeted {
			may, does = candidate.WouldByType(row.tenant, row.eventType)
		}
		sure[row.uid] = does && first <= row.seq && row.seq <= last
		if may && !sure[row.uid] {
			unread = append(unread, row)
		}
		return !may
	})
	found, err := r.find(ctx, p.tenant, unread)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(rows, func(row recorded) bool {
		if sure[row.uid] {
			return false
		}
		e := found[row.uid]
		if e == nil || e.Test || !candidate.Would(e.matchEvent()) {
			return true
		}
		if remember {
			event := e.Delivery()
			r.Remember(&event)
		}
		return false
	}), nil
}

// find reads the events of rows: in one go where they lie close together, else one by one. Those whose bytes are
// gone are left out.
func (r *Replayer) find(ctx context.Context, tenant string, rows []recorded) (map[uuid.UUID]*Event, error) {
	found := make(map[uuid.UUID]*Event, len(rows))
	if len(rows) == 0 {
		return found, nil
	}
	low, high := rows[0].seq, rows[0].seq
	for _, row := range rows {
		low, high = min(low, row.seq), max(high, row.seq)
	}
	const sparse = 3 // a message that is read in vain costs about a third of one that is read alone
	if high-low <= uint64(sparse*len(rows)) {
		for e, err := range r.Reader.between(ctx, tenant, low, high) {
			if err != nil {
				return nil, err
			}
			found[e.UID()] = e
		}
	}
	for _, row := range rows {
		if found[row.uid] != nil {
			continue
		}
		e, err := readEvent(ctx, r.Reader, r.Bytes, row)
		if err != nil && !errors.Is(err, deliver.ErrEventGone) {
			return nil, err
		}
		if err == nil {
			found[row.uid] = e
		}
	}
	return found, nil
}
