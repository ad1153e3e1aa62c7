package throttle

import (
	"time"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// pace is a rate limit in the terms of the generic cell rate algorithm. All times are microseconds.
type pace struct {
	gap   int64 // between two requests
	burst int64 // how far requests may be ahead of one every gap: a second's worth, or one
}

// paceOf returns the pace of a rate limit. A burst is a second's worth and never more than one limit: so in any ten
// seconds no more than a tenth is sent beyond the limit, and after a pause a few may still go together.
func paceOf(limit subscriptions.RateLimit) pace {
	gap := max(limit.Per.Microseconds()/int64(max(limit.Limit, 1)), 1)
	return pace{gap: gap, burst: gap * max(min(int64(time.Second/time.Microsecond)/gap, int64(limit.Limit))-1, 0)}
}

// meter is the state of a rate limit, as Postgres holds it. Times are microseconds since 1970.
type meter struct {
	gap   int64
	sent  int64 // when the requests permitted so far would all have been made, one gap after the other
	queue int64 // the last time that was given to a delivery which has to wait
}

// permitSoon is how long a delivery waits for its permit with a slot in hand; a delivery that must wait longer is put off.
const permitSoon = int64(time.Second / time.Microsecond)

// ask is what a worker wants at once for one subscription.
type ask struct {
	queued int // deliveries that have waited already, in their order
	fresh  int // deliveries that come now
	spare  int // permits to keep at hand, for those that come next
}

// grant is what it gets: the first of those who asked get a permit, the rest a time to ask again.
type grant struct {
	permits []int64 // when each request may be made, in order; spare ones come last
	waits   []int64 // when to ask again
}

// take hands out permits and times. Those that have waited go first; those that come now go behind the queue.
func (p pace) take(m *meter, now int64, a ask) grant {
	if m.gap != p.gap {
		// The limit was changed: waiting deliveries have times of the former limit.
		m.gap, m.queue = p.gap, min(m.queue, now)
		m.sent = min(m.sent, now+p.gap+p.burst)
	}
	want := a.queued
	if m.queue <= now+permitSoon {
		want += a.fresh + a.spare
	}
	var g grant
	for range want {
		at := max(m.sent-p.burst, now)
		if at > now+permitSoon {
			break
		}
		g.permits = append(g.permits, at)
		m.sent = max(m.sent, now) + p.gap
	}
	for range max(a.queued+a.fresh-len(g.permits), 0) {
		m.queue = max(m.queue+p.gap, m.sent-p.burst)
		g.waits = append(g.waits, m.queue)
	}
	return g
}
