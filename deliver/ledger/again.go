package ledger

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// Only says which deliveries of the past are made again.
type Only string

// What is made again. Whatever is pending goes by itself and never is.
const (
	OnlyDead        Only = "dead"        // those that were given up
	OnlyUndelivered Only = "undelivered" // all that never succeeded, also those that never were
	OnlyAll         Only = "all"
	OnlyMissing     Only = "missing" // deliveries that were never made
	OnlyListed      Only = "listed"  // ended ones that are given, unless a later generation counts instead
)

// Again is a delivery that is to be made again, or for the first time long after its event.
type Again struct {
	Tenant       string
	EventUID     uuid.UUID
	EventID      string
	EventType    string
	Seq          uint64
	Subscription uuid.UUID
	// Order is the key in whose order it is made, if its subscription asks for one; see OrderKey.
	Order uuid.NullUUID
	// Ended is the generation of the delivery that is to be made again, if it is of one that ended: it is made again only if it
	// is the last one, or a dead letter that is open.
	Ended sql.Null[int]
	// Place is what a list of them is ordered by: the id of the delivery that ended, or the event's.
	Place uuid.UUID
}

// Repeater makes deliveries of the past again, each as a new generation with a row of its own.
type Repeater struct {
	ledger *Ledger
}

// NewRepeater makes a Repeater.
func NewRepeater(db *sql.DB) *Repeater { return &Repeater{ledger: New(db)} }

// Span is a span of time over the acceptance of events: since is part of it, until is not.
type Span struct {
	Since, Until time.Time
	Tenant       string // empty: events of all tenants
}

// Dead says which dead letters are listed. Zero fields ask nothing.
type Dead struct {
	Span
	Tenant       string
	Subscription uuid.UUID
	EventID      string
	Properties   func(*postgres.Where) // adds conditions on columns of the delivery; nil: none
	Before       time.Time             // dead letters made later are not listed, so that no replay meets its own
}

// Dead returns dead letters in the order of their ids, after a place, of subscriptions that can receive. Where it stopped before the
// end, since it had examined all that a page may, it says at which id.
func (r *Repeater) Dead(ctx context.Context, d Dead, after uuid.UUID, limit int) (list []Again, cut uuid.UUID, err error) {
	return r.ledger.dead(ctx, d, after, limit)
}

// Count returns how many of the list Send would make now.
func (r *Repeater) Count(ctx context.Context, only Only, list []Again) (n int, err error) {
	if only == OnlyAll { // Then what ended need not be looked at, which is most of the work.
		waiting, err := r.ledger.waiting(ctx, list)
		return len(list) - waiting, err
	}
	last, err := r.ledger.standing(ctx, r.ledger.DB, list)
	if err != nil {
		return 0, err
	}
	return len(wanted(list, last, only)), nil
}

// Pace is when deliveries are due: the first at From, each other one Every later.
type Pace struct {
	From   time.Time
	Every  time.Duration
	Replay uuid.UUID // that makes them
}

// Send makes the deliveries of the list that are wanted, within a transaction, and returns how many.
func (r *Repeater) Send(ctx context.Context, tx *sql.Tx, only Only, list []Again, pace Pace) (int, error) {
	if err := r.ledger.lockPairs(ctx, tx, list); err != nil {
		return 0, err
	}
	last, err := r.ledger.standing(ctx, tx, list)
	if err != nil {
		return 0, err
	}
	var fresh []fresh
	for _, i := range wanted(list, last, only) {
		fresh = append(fresh, list[i].fresh(last[i], pace, len(fresh)))
	}
	return len(fresh), r.ledger.sendAgain(ctx, tx, fresh, pace.Replay)
}

// Backlog returns how many deliveries of a subscription wait and are in no worker's hands, at most limit.
func (r *Repeater) Backlog(ctx context.Context, subscription uuid.UUID, limit int) (int, error) {
	return r.ledger.backlog(ctx, subscription, limit)
}

// standing is what became so far of one event for one subscription.
type standing struct {
	generation int         // the last one; -1 where there is none
	state      string      // of the last one; empty where there is none
	delivered  bool        // by any generation
	open       []uuid.UUID // its dead letters that no later generation counts instead of: one at most, but for rows of earlier versions
}

// wanted returns the places in the list of those that another generation is to be made of. A dead letter and its cancelled
// retry may both be listed: only the first is made again.
func wanted(list []Again, last []standing, only Only) []int {
	var places []int
	made := make(map[[2]uuid.UUID]bool, len(list))
	for i, a := range list {
		pair := [2]uuid.UUID{a.EventUID, a.Subscription}
		if !made[pair] && a.wanted(last[i], only) {
			places, made[pair] = append(places, i), true
		}
	}
	return places
}

// wanted reports whether another generation is to be made.
func (a Again) wanted(s standing, only Only) bool {
	switch {
	case s.state == outcome.Pending, a.Ended.Valid && a.Ended.V != s.generation && !slices.Contains(s.open, a.Place):
		return false
	case only == OnlyDead:
		return len(s.open) > 0
	case only == OnlyUndelivered:
		return !s.delivered
	case only == OnlyMissing:
		return s.generation < 0
	default:
		return true
	}
}

// fresh is a row of a new generation.
type fresh struct {
	Again
	generation int
	due        time.Time
	open       []uuid.UUID // the dead letters that it counts instead of
}

func (f fresh) id() uuid.UUID { return outcome.ID(f.EventUID, f.Subscription, f.generation, f.due) }

// fresh makes the row of the next generation. Generation 0 is for the matches of the event when it came; a delivery
// sent for the first time later is of a generation after it. Its time is that of its turn, so that the ids of a
// long replay lie in the days in which they are sent.
func (a Again) fresh(s standing, pace Pace, turn int) fresh {
	return fresh{Again: a, generation: max(s.generation, 0) + 1, due: pace.From.Add(time.Duration(turn) * pace.Every), open: s.open}
}
