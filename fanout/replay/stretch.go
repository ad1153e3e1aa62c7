package replay

import (
	"context"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/postgres"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// reach is how far a step has looked.
type reach struct {
	place uuid.UUID
	last  bool // there is nothing after it
}

// stretch is the next part of a replay.
type stretch struct {
	list []ledger.Again
	gone []ledger.Again // cannot be made: the bytes of their events are nowhere
	reach
}

// most is how many events or dead letters the next step looks at.
func (r *replay) most() int {
	if r.state == replayCounting {
		return countMost
	}
	return min(max(r.rate/40, min(r.rate, stretchLeast)), stretchMost)
}

// properties adds what a replay of dead letters asks of them.
func (r *replay) properties(w *postgres.Where) {
	history.Filter{
		Tenant: r.tenant, Types: r.types, Reasons: r.filter.Reasons, Statuses: r.filter.Statuses, Objects: r.filter.Objects, Resources: r.filter.Resources,
	}.Properties(w)
}

// stretch reads the next part.
func (r *Replayer) stretch(ctx context.Context, p *replay, sub *subscriptions.Subscription) (stretch, error) {
	limit := p.most()
	of := stretch{reach: reach{place: p.place}}
	if p.only == ledger.OnlyDead {
		list, cut, err := r.again.Dead(ctx, ledger.Dead{
			Span: p.span, Tenant: p.tenant, Subscription: p.subscription.UUID, EventID: p.eventID, Before: p.createdAt, Properties: p.properties,
		}, p.place, limit)
		switch of.list = list; {
		case cut != uuid.Nil:
			of.place = cut
		case len(list) == limit:
			of.place = list[len(list)-1].Place
		default:
			of.place, of.last = uuid.Max, true
		}
		return of, err
	}
	oldest, err := r.Reader.Oldest(ctx)
	if err != nil {
		return of, err
	}
	page, err := r.store.events(ctx, p, limit, oldest.Seq)
	if err != nil {
		return of, err
	}
	if of.last = len(page) < limit; of.last {
		of.place = uuid.Max // What is accepted from now on is not the replay's.
	} else {
		of.place = page[len(page)-1].UID
	}
	again := func(row fanout.Recorded) ledger.Again {
		return ledger.Again{
			Tenant: row.Tenant, EventUID: row.UID, EventID: row.ID, EventType: row.Type, Seq: row.Seq, Subscription: sub.ID, Place: row.UID,
		}
	}
	candidate := r.Directory.Candidate(sub)
	var rows []fanout.Recorded
	for _, row := range page {
		if !row.gone {
			rows = append(rows, row.Recorded)
		} else if may, _ := candidate.WouldByType(row.Tenant, row.Type); may && !row.Targeted.V {
			of.gone = append(of.gone, again(row.Recorded))
		}
	}
	var remember func(*event.Event)
	if p.state == replayRunning {
		remember = r.Remember
	}
	matching, err := fanout.Sieve{Reader: r.Reader, Bytes: r.Bytes, Directory: r.Directory, Remember: remember}.Matching(ctx, p.tenant, rows, sub)
	if err != nil {
		return of, err
	}
	for _, row := range matching {
		of.list = append(of.list, again(row))
	}
	return of, nil
}
