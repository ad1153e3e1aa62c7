package throttle

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
)

// The bounds of waiting in the line of a subscription. A quick receiver may have many waiting, as they are
// through in no time; those of a slow one would only keep memory and tasks.
const (
	maxWaiting   = 4096                   // for one subscription
	minWaiting   = 16                     // these may wait however slow it is, or as many as it may have in flight
	slowQueue    = 500 * time.Millisecond // the first in the queue has waited this long: it does not move
	minBusy      = 250 * time.Millisecond // how soon a delivery comes back that found no room,
	maxBusy      = time.Minute            // and how late at most, should the receiver have become quicker:
	growingBusy  = 2 * time.Second        // this, or two requests long, while the subscription may have more and more in flight
	unknownGap   = 10 * time.Millisecond  // how far apart deliveries come back to a receiver whose speed is unknown
	waitingShare = 16                     // over all subscriptions, this many wait for each place of the worker

	// duePart bounds the deliveries of one tenant that were put off before and wait in line: one for so many places of
	// the worker. A worker leases a quarter of its places at least, so that those of other tenants are leased as well.
	duePart = 8

	slowStart  = 2           // places that a subscription begins with
	mostShare  = 4           // it has at most one in so many of the worker's places,
	leastShare = 8           // or these, if the worker has few,
	slowHold   = time.Second // and if it keeps each for longer than this, one in mostShare of those that are free
)

// line is one subscription's: its requests in flight, and its deliveries that wait for one of them to end.
// Three rules bound how many it may have in flight, beside the subscription's own bound:
//
//   - A new one begins with slowStart. Where it uses all that it may, each quick answer doubles that, and
//     each slow one adds one.
//   - None has more than a quarter of the worker.
//   - One whose receiver is slow has no more than a quarter of the places that are free: the more are
//     taken, the less it has, so that quick ones find room.
type line struct {
	id       uuid.UUID
	most     int // the subscription's max_in_flight, over all workers
	bound    int // by the subscription and its breaker, as of the last time that somebody asked
	allowed  int // by slow start
	inFlight int
	queue    []*Ticket     // in the order of arrival
	freed    time.Time     // when a place was last given back while others waited
	interval time.Duration // between those, about: the receiver's speed
	hold     time.Duration // how long its requests take, about
	next     time.Time     // the last time that was given to a delivery that found no room
	used     time.Time
}

// lines are those of a gate. Its mutex guards them.
type lines struct {
	pool    *pool
	workers *Workers
	crowded func() bool // many wait to begin, so that a queue that does not move says nothing of its receiver
	all     map[uuid.UUID]*line
	spare   []*line
	waiting int
}

// lineKept is how long an idle subscription's line is remembered.
const lineKept = 10 * time.Minute

// of returns the line of a subscription.
func (ls *lines) of(id uuid.UUID) *line {
	l := ls.all[id]
	if l != nil {
		return l
	}
	if n := len(ls.spare); n > 0 {
		l = ls.spare[n-1]
		ls.spare = ls.spare[:n-1]
		*l = line{queue: l.queue[:0]}
	} else {
		l = new(line)
	}
	l.id, l.allowed = id, slowStart
	ls.all[id] = l
	return l
}

// limit is how many requests the subscription may have in flight now. It is 0 only if this worker lost its share of
// max_in_flight.
func (ls *lines) limit(l *line) int {
	return min(max(min(l.bound, l.allowed, ls.share(l)), 1), ls.workers.share(l.id, l.most))
}

// share is how many of the worker's places the subscription may have.
func (ls *lines) share(l *line) int {
	if l.hold > slowHold {
		return ls.pool.free / mostShare
	}
	return max(ls.pool.size/mostShare, leastShare)
}

// take takes a place of the subscription, which may have bound of them, or one in its queue. The error is a
// Refusal.
func (ls *lines) take(t *Ticket, bound int, now time.Time) error {
	l := ls.of(t.Subscription.ID)
	l.bound, l.most, l.used = bound, most(t.Subscription), now
	limit := ls.limit(l)
	if l.inFlight < limit && len(l.queue) == 0 {
		l.inFlight++
		t.line = l
		return nil
	}
	if t.Due && t.share.due >= max(ls.pool.size/duePart, minWaiting) {
		return ls.later(l, now)
	}
	if n := len(l.queue); n >= maxWaiting || n >= max(limit, minWaiting) && ls.stuck(l, now) {
		return ls.later(l, now)
	}
	t.line = l
	t.ready, t.asked = make(chan struct{}), now
	t.turn = t.ready
	l.queue = append(l.queue, t)
	ls.waits(t, 1)
	return nil
}

// stuck reports whether waiting is no use: the receiver is known to be slow, or the queue does not move and
// that is not because the worker is too busy; or too many wait in the whole worker.
func (ls *lines) stuck(l *line, now time.Time) bool {
	moves := l.hold <= slowHold && now.Sub(l.queue[0].asked) <= slowQueue
	return !moves && !ls.crowded() || ls.waiting >= waitingShare*ls.pool.size
}

// learn adapts the line to an answer.
func (ls *lines) learn(l *line, took time.Duration, answered bool) {
	l.hold += (took - l.hold) / 8
	if !answered || l.inFlight < l.allowed || l.allowed >= ls.pool.size {
		return
	}
	if took <= slowHold {
		l.allowed *= 2
	} else {
		l.allowed++
	}
}

// exit gives a place back, to the first ticket in the queue.
func (ls *lines) exit(l *line, now time.Time) {
	l.inFlight--
	l.used = now
	if len(l.queue) > 0 {
		l.pace(now)
	}
	for len(l.queue) > 0 && l.inFlight < ls.limit(l) {
		t := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		ls.waits(t, -1)
		l.inFlight++
		t.grant()
	}
	// What nothing was learned of is forgotten at once, so that a million quiet subscriptions cost nothing.
	if l.idle() && l.allowed == slowStart && l.hold <= slowHold && now.After(l.next) {
		ls.forget(l)
	}
}

// leave takes a ticket out of the line, whether it waits there or has a place.
func (ls *lines) leave(t *Ticket, now time.Time) {
	l := t.line
	if i := slices.Index(l.queue, t); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		ls.waits(t, -1)
		return
	}
	ls.exit(l, now)
}

// waits counts a ticket that begins or ends to wait.
func (ls *lines) waits(t *Ticket, n int) {
	ls.waiting += n
	if t.Due {
		t.share.due += n
	}
}

func (l *line) idle() bool { return l.inFlight == 0 && len(l.queue) == 0 }

func (ls *lines) forget(l *line) {
	delete(ls.all, l.id)
	if len(ls.spare) < 1024 {
		ls.spare = append(ls.spare, l)
	}
}

// sweep forgets subscriptions that have been quiet.
func (ls *lines) sweep(now time.Time) {
	for _, l := range ls.all {
		if l.idle() && now.After(l.next) && now.Sub(l.used) > lineKept {
			ls.forget(l)
		}
	}
}

// pace measures how often a place becomes free while others wait for it: the receiver's speed.
func (l *line) pace(now time.Time) {
	if !l.freed.IsZero() {
		// An average over about the last eight; idle times between two queues count for a second at most.
		l.interval += (min(now.Sub(l.freed), time.Second) - l.interval) / 8
	}
	l.freed = now
}

// later refuses a delivery that found no room. Each gets a time of its own, at the receiver's speed, so
// that they do not all come back at once. While that speed is unknown, as after a start, or still grows, they come back soon:
// an endpoint that works must not wait for times that were computed when it was allowed few requests.
func (ls *lines) later(l *line, now time.Time) Refusal {
	interval, most := cmp.Or(l.interval, unknownGap), maxBusy
	if l.interval == 0 || l.allowed < min(l.bound, ls.share(l)) {
		most = min(max(growingBusy, 2*l.hold), maxBusy)
	}
	if l.next.Before(now.Add(minBusy)) {
		l.next = now.Add(minBusy)
	}
	l.next = l.next.Add(interval)
	if last := now.Add(most); l.next.After(last) {
		l.next = last
		// Those that would have to wait longer come back over the second half of that time.
		return busy(most - rand.N(most/2))
	}
	return busy(l.next.Sub(now))
}

func busy(wait time.Duration) Refusal { return Refusal{Wait: wait, Reason: Busy} }
